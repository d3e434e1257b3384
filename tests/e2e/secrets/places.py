"""All that a stack has stored or passed on, as bytes by where it was found."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import nats
import psutil
from bson import json_util
from nats.js.errors import NotFoundError
from pymongo import MongoClient

from deploy.local.folder import Folder
from tests.stack import Stack


def files(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Every file below the data folder."""
    for path in sorted(stack.folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield f"file {path.relative_to(stack.folder)}", path.read_bytes()


def documents(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Every collection of every database, as the operator reads it: the files are compressed."""
    client: MongoClient[dict[str, Any]] = MongoClient(
        f"mongodb://127.0.0.1:{stack.status()['mongod']['port']}/?directConnection=true",
        username="operator",
        password=Folder(stack.folder).secrets["mongo_passwords"]["operator"],
        authSource="admin",
    )
    with client:
        for database in client.list_database_names():
            for collection in client[database].list_collection_names():
                if database != "admin" and not collection.startswith(
                    ("system.", "replset.")
                ):  # users, as hashes; mongod's own
                    found = list(client[database][collection].find({}))
                    # Binary values are base64 in this, and searched for as that.
                    yield f"collection {database}.{collection}", json_util.dumps(found).encode()


def messages(stack: Stack) -> list[tuple[str, bytes]]:
    """Every message of every stream of JetStream, with its subject and headers."""
    return asyncio.run(_read_streams(stack))


async def _read_streams(stack: Stack) -> list[tuple[str, bytes]]:
    client = await nats.connect(
        f"nats://127.0.0.1:{stack.status()['nats-server']['port']}",
        user="operator",
        password=Folder(stack.folder).secrets["bus_passwords"]["operator"],
        inbox_prefix=b"_INBOX.operator",
    )
    found = list[tuple[str, bytes]]()
    jetstream = client.jetstream()
    for info in await jetstream.streams_info():
        name, content = info.config.name or "", b""
        for number in range(max(1, info.state.first_seq), info.state.last_seq + 1):
            with suppress(NotFoundError):  # it was deleted
                message = await jetstream.get_msg(name, number)
                content += repr((message.subject, message.headers)).encode() + (message.data or b"")
        found.append((f"stream {name}", content))
    await client.close()
    return found


def processes(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Environment and command line of every process of the stack; the supervisor's own environment is the caller's."""
    supervisor = psutil.Process(Folder(stack.folder).state["pid"])
    yield "command line of the supervisor", "\0".join(supervisor.cmdline()).encode()
    for name, row in stack.status().items():
        process = psutil.Process(row["pid"])
        yield f"command line of {name}", "\0".join(process.cmdline()).encode()
        yield f"environment of {name}", "\0".join(f"{key}={value}" for key, value in process.environ().items()).encode()
