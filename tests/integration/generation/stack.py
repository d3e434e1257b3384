"""The generation service as a process on a real NATS server and a real MongoDB, and commands for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from shared import ids
from shared.bus import Bus, StreamSpec, ensure_stream
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.generations import Chat, Chunk, Complete, Generate, Generation
from shared.contracts.generation.projects import ModelConfig, ProjectRef
from shared.contracts.logs import INTAKE, LogRecord
from shared.contracts.principal import Actor, Principal, Role
from shared.mongo import Database, connect, initiate_replica_set
from shared.settings import DatabaseSettings
from tests.fake_servers import openai
from tests.fake_servers.openai import FakeOpenAI
from tests.integration.servers import Mongo, Nats, Process, connected, running, service, until_ready


@dataclass(frozen=True)
class GenerationStack:
    """The running servers and service, the fake server it calls as OpenAI, and connections to bus and database."""

    nats: Nats
    mongo: Mongo
    generation: Process
    bus: Bus
    database: Database
    upstream: FakeOpenAI

    async def logs(self, *log_ids: str) -> list[LogRecord]:
        """Return the records of these logs in the `LOGS` stream."""
        found = {record.id: record for record in await self.recorded()}
        return [found[log_id] for log_id in log_ids]

    async def recorded(self) -> list[LogRecord]:
        """Return every log of the `LOGS` stream."""
        return [
            record
            for payload in await self.messages("LOGS")
            for record in INTAKE.validate_json(payload)
            if isinstance(record, LogRecord)
        ]

    async def messages(self, stream: str) -> list[bytes]:
        """Return every message of a stream."""
        jetstream = (await self.bus.connected_client()).jetstream()
        state = (await jetstream.stream_info(stream)).state
        return [
            (await jetstream.get_msg(stream, number)).data or b""
            for number in range(state.first_seq, state.last_seq + 1)
            if state.messages
        ]


@asynccontextmanager
async def run_generation_stack(folder: Path, **environment: str) -> AsyncIterator[GenerationStack]:
    """Run a stack; `environment` adds to the service's, e.g. base URLs and keys of more providers."""
    nats, mongo, upstream = Nats(folder), Mongo(folder), openai.start()
    with running(nats), running(mongo):
        await initiate_replica_set(f"mongodb://127.0.0.1:{mongo.port}", f"127.0.0.1:{mongo.port}")
        environment = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-installation"} | environment
        generation = service("generation", folder, nats, mongo, **environment)
        settings = DatabaseSettings(mongo_url=mongo.url)
        async with connected(nats) as bus:
            await ensure_stream(bus, StreamSpec("LOGS", ("logs.>",)))
            await ensure_stream(bus, StreamSpec("EVENTS", ("events.>",)))
            with running(generation):
                await until_ready(bus, "generation")
                database = connect(settings, "generation")
                yield GenerationStack(nats, mongo, generation, bus, database, upstream)
                database.client.close()


def new_organisation() -> str:
    """Return a new organisation id."""
    return ids.mint("tm")


def principal_of(organisation: str, role: Role | None = "Developer", actor: Actor | None = None) -> Principal:
    """Return a principal of the organisation."""
    return Principal(organisation=organisation, role=role, **(actor or Actor(user_id="usr_ada")).model_dump())


def config(**fields: Any) -> ModelConfig:
    """Return a chat config for the mock provider; `fields` replace its own."""
    return ModelConfig.model_validate({"provider": "mock", "model": "mock", "endpoint": "chat"} | fields)


def _common(fields: dict[str, Any]) -> dict[str, Any]:
    samples = fields.get("num_samples", 1)
    organisation = fields.pop("organisation", None) or new_organisation()
    return {
        "principal": principal_of(organisation, "Member"),
        "project": ProjectRef(name="desk"),
        "log_ids": [ids.mint("data") for _ in range(samples)],
    } | fields


def chat(text: str = "hello there", **fields: Any) -> Chat:
    """Return a chat with one user message."""
    fields = {"config": config(), "messages": [ChatMessage(role="user", content=text)]} | fields
    return Chat.model_validate(_common(fields))


def complete(**fields: Any) -> Complete:
    """Return a completion."""
    fields = {"config": config(endpoint="complete", prompt_template="Say {{what}}."), "inputs": {"what": "hi"}} | fields
    return Complete.model_validate(_common(fields))


async def collect_answer(bus: Bus, command: Generate) -> tuple[list[Chunk], Generation]:
    """Send a call and return its chunks and its answer."""
    parts: list[BaseModel] = [part async for part in bus.stream_request(command, Chunk)]
    generation = parts[-1]
    assert isinstance(generation, Generation)
    return [part for part in parts[:-1] if isinstance(part, Chunk)], generation
