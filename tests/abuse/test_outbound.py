"""Tools and images at hosts that hang, drip, answer without end or go away: other organisations' tools and images, and
the attacker's own at healthy hosts, are answered all the while, and nothing of it is left."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import psutil
import pytest

from tests.abuse.attacks.outbound import call_all, create_tool, hanging_hosts, image_chat, tool_chat
from tests.abuse.attacks.target import Target
from tests.abuse.victim import Victim
from tests.e2e.generation.test_images_by_address import PICTURE
from tests.fake_servers.server import FakeServer
from tests.fake_servers.web import FakeWebServer, WebResponse
from tests.stack import Stack


@dataclass
class OutboundVictim(Victim):
    """Also calls a tool, and shows an image named by address."""

    tool: str = ""
    image_url: str = ""

    def _round(self) -> None:
        super()._round()
        self._call("tool", "POST", "/chat", json=tool_chat(self.tool))
        self._call("image", "POST", "/chat", json=image_chat(self.image_url))


@pytest.fixture
def healthy(web: FakeWebServer) -> FakeWebServer:
    """A web server as servers should be."""
    web.responses |= {"/now": WebResponse(b"noon"), "/picture.png": PICTURE}
    return web


@pytest.fixture
def victim(
    stack: Stack, victim_key: str, healthy: FakeWebServer, fake_providers: dict[str, FakeServer]
) -> Iterator[OutboundVictim]:
    assert fake_providers["google"].url
    tool = create_tool(Target(stack.url, victim_key), f"{healthy.url}/now")
    victim = OutboundVictim(stack.url, victim_key, tool=tool, image_url=f"{healthy.url}/picture.png")
    with victim.calling():
        yield victim


def connections_to(stack: Stack, ports: set[int]) -> int:
    """Return how many connections generation has to these ports."""
    service = psutil.Process(stack.status()["generation"]["pid"])
    return sum(bool(connection.raddr) and connection.raddr.port in ports for connection in service.net_connections())


async def until_gone(stack: Stack, ports: set[int]) -> None:
    """Wait until generation has no connection to these ports. Raises TimeoutError."""
    async with asyncio.timeout(15):
        while await asyncio.to_thread(connections_to, stack, ports):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)


@pytest.mark.usefixtures("victim", "memory")
async def test_hosts_that_hang_stand_before_nobody_and_leave_nothing(
    stack: Stack, api: httpx.Client, healthy: FakeWebServer
) -> None:
    attacker = Target(stack.url, stack.api_key)
    own_tool = create_tool(attacker, f"{healthy.url}/now")
    async with hanging_hosts() as urls:
        attacking = asyncio.create_task(call_all(attacker, list(urls)))
        await asyncio.sleep(1)
        # The attacker's own calls to a healthy host share the places of one organisation: later, but answered.
        for body in (tool_chat(own_tool), image_chat(f"{healthy.url}/picture.png")):
            answer = await asyncio.to_thread(api.post, "/chat", json=body)
            assert answer.status_code in {200, 503}, answer.text
        await attacking
        await until_gone(stack, set(urls.values()))
    answers = await asyncio.gather(*(asyncio.to_thread(api.post, "/chat", json=tool_chat(own_tool)) for _ in range(40)))
    assert [answer.status_code for answer in answers] == [200] * 40
