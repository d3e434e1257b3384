"""The bus of a stack, as its operator or one of its services has it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import SecretStr

from deploy.local.folder import Folder
from deploy.local.privileges.secrets import Secrets
from deploy.local.servers import ports
from shared.bus import Bus
from shared.settings import ServiceSettings
from tests.stack import Stack

T = TypeVar("T")


async def on_bus(stack: Stack, work: Callable[[Bus], Awaitable[T]], user: str = "operator") -> T:
    """Return what `work` returns, which is given a connection."""
    settings = ServiceSettings(
        nats_url=f"nats://{ports.HOST}:{stack.status()['nats-server']['port']}",
        nats_user=user,
        nats_password=SecretStr(Secrets.load_or_create(Folder(stack.folder)).bus_passwords[user]),
    )
    bus = Bus(settings, user)
    await bus.open()
    try:
        return await work(bus)
    finally:
        await bus.close()
