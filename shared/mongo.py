"""Connects to MongoDB, maps the driver's errors, and sets up a one-node replica set with its users.

Beside this file only each service's `store` may import the driver (motor), and only calls that PyMongo's async client
has too are used, so that leaving motor stays a change of imports.
"""

import asyncio
import functools
import inspect
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC
from typing import Any, NamedTuple, ParamSpec, TypeVar

from bson.codec_options import CodecOptions
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession, AsyncIOMotorDatabase
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
from shared.settings import DatabaseSettings

logger = logging.getLogger(__name__)

Document = dict[str, Any]
Database = AsyncIOMotorDatabase[Document]
Session = AsyncIOMotorClientSession
"""A transaction under way: operations that are given it belong to the transaction, one after the other."""
P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound=type)

SELECTION_MILLISECONDS = 3_000
"""How long an operation looks for a primary before it fails; an election takes less."""
_NOT_YET_INITIALIZED = 94
"""MongoDB's error code of a server that is not in a replica set yet."""
_DURABLE = WriteConcern(w="majority", j=True)
_TRANSACTION_SECONDS = 4.0
"""How long a transaction, or its commit, is tried again: whoever sent the command waits 5 s."""
_RETRY_SECONDS = 0.02
"""Upper bound of the random delay before the first repeat; it grows with their number."""


def connect(settings: DatabaseSettings, service: str) -> Database:
    """Return the database of a service, `<mongo_prefix>_<service>`. It connects when first used.

    Reads are from the primary; writes are acknowledged by a majority's journal.
    """
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
        settings.mongo_url.get_secret_value(), **connection_options(settings, service)
    )
    return client.get_database(
        database_name(settings, service),
        codec_options=CodecOptions(tz_aware=True, tzinfo=UTC),
        read_preference=ReadPreference.PRIMARY,
        write_concern=_DURABLE,
    )


def database_name(settings: DatabaseSettings, service: str) -> str:
    """Return the name of a service's database."""
    return f"{settings.mongo_prefix}_{service}"


def connection_options(settings: DatabaseSettings, service: str) -> dict[str, Any]:
    """Return what a client of a service's database is made with, beside the URL: login, timeouts, its name."""
    login: dict[str, Any] = {}
    if settings.mongo_user and settings.mongo_password:
        login = {"username": settings.mongo_user, "password": settings.mongo_password.get_secret_value()}
        if "authsource=" not in settings.mongo_url.get_secret_value().lower():
            login["authSource"] = database_name(settings, service)
    return {
        "serverSelectionTimeoutMS": SELECTION_MILLISECONDS,
        "connectTimeoutMS": SELECTION_MILLISECONDS,
        # The driver takes a silent member for gone, and cuts off what waits for it, after this and `connectTimeoutMS`.
        "heartbeatFrequencyMS": round(settings.mongo_heartbeat_seconds * 1000),
        "appname": f"everloop-{service}",
        **login,
    }


def unavailable_when_away(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Decorate a coroutine function so that it raises Unavailable while the database is away."""

    @functools.wraps(method)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except (AutoReconnect, ConnectionFailure, ExecutionTimeout, WTimeoutError) as error:
            raise Unavailable("The database is away. Try again.") from error

    return guarded


def raises_unavailable(cls: S) -> S:
    """Decorate a class so that its coroutine methods raise Unavailable while the database is away."""
    for name, method in vars(cls).copy().items():
        if inspect.iscoroutinefunction(method):
            setattr(cls, name, unavailable_when_away(method))
    return cls


@unavailable_when_away
async def transaction(database: Database, work: Callable[[Session], Awaitable[T]]) -> T:
    """Run `work` in a transaction, commit what it wrote, all or nothing, and return its result.

    `work` gives the session to each of its operations. If it returns None or False, it has changed nothing: the
    transaction is aborted. A unique index that refuses a write aborts it, too, so `work` returns or raises then. It is
    run again if MongoDB aborts it, because another one has written the same documents. Raises what `work` raises, and
    Unavailable if the database is away or others write the same all the time. When the database vanishes during the
    commit, all of it may have been saved all the same.
    """
    deadline, tries = time.monotonic() + _TRANSACTION_SECONDS, 0
    # PyMongo's async client returns the session itself here, and `start_transaction` of it is to be awaited.
    async with await database.client.start_session() as session:
        while True:
            try:
                return await _attempt(session, work, deadline)
            except (PyMongoError, Unavailable) as error:
                if not _has_label(error, "TransientTransactionError"):
                    raise
                if time.monotonic() > deadline:
                    raise Unavailable("Others are changing the same. Try again.") from error
            tries += 1
            await asyncio.sleep(random.uniform(0, _RETRY_SECONDS * tries))  # noqa: S311 - no secret


async def _attempt(session: Session, work: Callable[[Session], Awaitable[T]], deadline: float) -> T:
    session.start_transaction(write_concern=_DURABLE)
    try:
        result = await work(session)
    except BaseException:
        await session.abort_transaction()
        raise
    if result is None or result is False:
        await session.abort_transaction()
    else:
        await _commit(session, deadline)
    return result


async def _commit(session: Session, deadline: float) -> None:
    """Commit; again while it is not known whether that succeeded, which MongoDB takes for the same commit."""
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if not _has_label(error, "UnknownTransactionCommitResult"):
                raise
            if time.monotonic() > deadline:
                raise Unavailable("The database went away during the change. Look whether it was made.") from error
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


def _has_label(error: PyMongoError | Unavailable, label: str) -> bool:
    """Return whether an error of the driver, or the one behind an Unavailable, has this label of MongoDB's."""
    cause = error.__cause__ if isinstance(error, Unavailable) else error
    return isinstance(cause, PyMongoError) and cause.has_error_label(label)


async def ping(database: Database) -> bool:
    """Return whether the database answers within 2 s and takes writes."""
    try:
        async with asyncio.timeout(2):
            answer = await database.command("hello")
    except (PyMongoError, TimeoutError):
        return False
    return bool(answer.get("isWritablePrimary"))


async def retry_until_available(prepare: Callable[[], Awaitable[None]]) -> None:
    """Run `prepare` (indexes, first documents) every half second until it does not raise Unavailable."""
    while True:
        try:
            await prepare()
        except Unavailable as error:
            logger.warning("waiting for the database", extra={"error": str(error.__cause__ or error)})
            await asyncio.sleep(0.5)
        else:
            return


class User(NamedTuple):
    """A user of a MongoDB server. It may read and write `database` and create its collections and indexes, nothing
    else; a user of `admin` has the role `root`."""

    database: str
    name: str
    password: str


async def initiate_replica_set(url: str, host: str, key: str | None = None) -> None:
    """Make the `mongod` at `url` a one-node replica set with member `host` (`127.0.0.1:27017`); wait for the primary.

    Idempotent; a changed `host` (another port than at the last start) is put into the configuration. `key` is the
    content of the server's key file, if it has one.
    """
    client = _administrator(url, key)
    try:
        await _initiate(client, host)
        async with asyncio.timeout(30):
            while not (await client.admin.command("hello")).get("isWritablePrimary"):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.05)
    finally:
        client.close()


async def create_users(url: str, key: str, users: Sequence[User]) -> None:
    """Create the users, or set password and role of those that exist. `key` is the content of the server's key file."""
    client = _administrator(url, key)
    try:
        for user in users:
            database = client.get_database(user.database, write_concern=_DURABLE)
            exists = (await database.command("usersInfo", user.name))["users"]
            await database.command(
                "updateUser" if exists else "createUser",
                user.name,
                pwd=user.password,
                roles=[{"role": "root" if user.database == "admin" else "readWrite", "db": user.database}],
                mechanisms=["SCRAM-SHA-256"],
            )
    finally:
        client.close()


def _administrator(url: str, key: str | None) -> "AsyncIOMotorClient[Document]":
    """Return a client logged in as a member of the replica set (docs/decisions/0013), which needs no existing user."""
    login: dict[str, Any] = {}
    if key is not None:
        login = {"username": "__system", "password": key, "authSource": "local", "authMechanism": "SCRAM-SHA-256"}
    return AsyncIOMotorClient(url, directConnection=True, serverSelectionTimeoutMS=SELECTION_MILLISECONDS, **login)


async def _initiate(client: "AsyncIOMotorClient[Document]", host: str) -> None:
    try:
        current = (await client.admin.command("replSetGetConfig"))["config"]
    except OperationFailure as error:
        if error.code != _NOT_YET_INITIALIZED:
            raise
        await client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": host}]})
        return
    if current["members"][0]["host"] != host:
        current["members"][0]["host"] = host
        current["version"] += 1
        await client.admin.command("replSetReconfig", current, force=True)
