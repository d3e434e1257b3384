"""The one seam to the MongoDB driver; beside it only each service's `store.py` may import it.

Only calls that PyMongo's async client has too are used, so that leaving motor stays a change of imports.
"""

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC
from typing import Any, ParamSpec, TypeVar

from bson.codec_options import CodecOptions
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from shared.errors import Unavailable
from shared.settings import ServiceSettings

logger = logging.getLogger(__name__)

Document = dict[str, Any]
Database = AsyncIOMotorDatabase[Document]
P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound=type)

SELECTION_MILLISECONDS = 3_000
"""How long an operation looks for a primary before it fails; an election takes less."""
_NOT_INITIALISED = 94


def connect(settings: ServiceSettings, service: str) -> Database:
    """The service's database. Connects when first used; writes are acknowledged by a majority's journal."""
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
        settings.mongo_url.get_secret_value(),
        serverSelectionTimeoutMS=SELECTION_MILLISECONDS,
        connectTimeoutMS=SELECTION_MILLISECONDS,
        appname=f"everloop-{service}",
    )
    return client.get_database(
        f"{settings.mongo_prefix}_{service}",
        codec_options=CodecOptions(tz_aware=True, tzinfo=UTC),
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern(w="majority", j=True),
    )


def unavailable_when_away(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Decorate a coroutine function so that it raises Unavailable while the database is away."""

    @functools.wraps(method)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except (AutoReconnect, ConnectionFailure, ExecutionTimeout, WTimeoutError) as error:
            raise Unavailable("The database is away. Try again.") from error

    return guarded


def store(cls: S) -> S:
    """Class decorator of every `Store`: its methods raise Unavailable while the database is away."""
    for name, method in vars(cls).copy().items():
        if inspect.iscoroutinefunction(method):
            setattr(cls, name, unavailable_when_away(method))
    return cls


async def ping(database: Database) -> bool:
    """Whether the database answers, and takes writes."""
    try:
        async with asyncio.timeout(2):
            answer = await database.command("hello")
    except (PyMongoError, TimeoutError):
        return False
    return bool(answer.get("isWritablePrimary"))


async def retry_until_available(prepare: Callable[[], Awaitable[None]]) -> None:
    """Run `prepare` (indexes, first documents) as soon as the database can, however long that takes."""
    while True:
        try:
            await prepare()
        except Unavailable as error:
            logger.warning("waiting for the database", extra={"error": str(error.__cause__ or error)})
            await asyncio.sleep(0.5)
        else:
            return


async def initiate_replica_set(url: str, host: str) -> None:
    """Make the `mongod` at `url` a one-node replica set reachable as `host` (`127.0.0.1:27017`); wait for its primary.

    Idempotent; a changed `host` (another port than at the last start) is put into the configuration.
    """
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
        url, directConnection=True, serverSelectionTimeoutMS=SELECTION_MILLISECONDS
    )
    try:
        await _initiate(client, host)
        async with asyncio.timeout(30):
            while not (await client.admin.command("hello")).get("isWritablePrimary"):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.05)
    finally:
        client.close()


async def _initiate(client: "AsyncIOMotorClient[Document]", host: str) -> None:
    try:
        current = (await client.admin.command("replSetGetConfig"))["config"]
    except OperationFailure as error:
        if error.code != _NOT_INITIALISED:
            raise
        await client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": host}]})
        return
    if current["members"][0]["host"] != host:
        current["members"][0]["host"] = host
        current["version"] += 1
        await client.admin.command("replSetReconfig", current, force=True)
