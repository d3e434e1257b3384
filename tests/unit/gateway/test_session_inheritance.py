"""Sessions of logs that name a parent and no session, with a fake bus."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.gateway.deps import Gateway
from services.gateway.routes import logs
from services.gateway.schemas.logs import LogRequest
from services.gateway.session_inheritance import get_session_of_log, inherit_sessions
from shared import ids
from shared.bus import Bus
from shared.contracts.generation.projects import ConfigVersion, ModelConfig, Project, ResolvedConfig
from shared.contracts.logs import GetSessionsOfLogs, LogRecord, SessionsOfLogs
from shared.contracts.principal import Principal
from shared.errors import Unavailable
from shared.fair_order import FairOrder
from tests.unit.logging.builders import START, log

CALLER = Principal(organisation="tm_1", role="Admin", key_id="key_1", user_id="usr_1", email="ada@example.org")
PARENT = ids.mint("data")


class FakeBus:
    """A bus on which logging knows these sessions; None: it is unavailable."""

    def __init__(self, sessions: dict[str, str | None] | None) -> None:
        self.sessions = sessions
        self.requests: list[list[str]] = []

    async def request(self, query: GetSessionsOfLogs, *, timeout_seconds: float) -> SessionsOfLogs:
        assert timeout_seconds <= 1
        assert query.organisation == "tm_1"
        self.requests.append(query.log_ids)
        if self.sessions is None:
            raise Unavailable("unavailable")
        return SessionsOfLogs(sessions={key: value for key, value in self.sessions.items() if key in query.log_ids})

    def as_bus(self) -> Bus:
        return cast("Bus", self)


async def sessions_of(bus: FakeBus, *records: LogRecord) -> list[str | None]:
    return [it.session_id for it in await inherit_sessions(bus.as_bus(), "tm_1", list(records))]


async def test_a_log_without_a_session_inherits_that_of_its_parent() -> None:
    bus = FakeBus({"data_1": "sesh_1", "data_2": None})
    assert await get_session_of_log(bus.as_bus(), "tm_1", "data_1") == "sesh_1"
    assert await get_session_of_log(bus.as_bus(), "tm_1", "data_2") is None
    assert await get_session_of_log(bus.as_bus(), "tm_1", "data_late") is None
    records = [log("data_3", parent_id="data_1"), log("data_4", parent_id="data_2"), log("data_5", parent_id="data_1")]
    assert await sessions_of(bus, *records) == ["sesh_1", None, "sesh_1"]
    assert bus.requests[3:] == [["data_1", "data_2"]]


async def test_logs_with_a_session_or_without_a_parent_need_no_lookup() -> None:
    bus = FakeBus(None)
    records = [log("data_1"), log("data_2", session_id="sesh_2", parent_id="data_1")]
    assert await sessions_of(bus, *records) == [None, "sesh_2"]
    assert bus.requests == []


async def test_parents_in_the_same_call_are_found_in_any_order() -> None:
    records = [
        log("data_1", session_id="sesh_1"),
        log("data_2", parent_id="data_1"),
        log("data_3", parent_id="data_2"),
        log("data_4", parent_id="data_outside"),
        log("data_5", parent_id="data_4"),
        log("data_6", parent_id="data_late"),
        log("data_7", parent_id="data_6", session_id="sesh_7"),
        log("data_8", parent_id="data_7"),
    ]
    expected = ["sesh_1", "sesh_1", "sesh_1", "sesh_9", "sesh_9", None, "sesh_7", "sesh_7"]
    known: dict[str, str | None] = {"data_outside": "sesh_9"}
    assert await sessions_of(FakeBus(known), *records) == expected
    assert await sessions_of(FakeBus(known), *reversed(records)) == expected[::-1]


async def test_the_stored_session_of_a_log_takes_precedence_over_the_sent_one() -> None:
    """As in logging: a second log with the same reference is the first one."""
    records = [
        log("data_1", session_id="sesh_new"),
        log("data_2", parent_id="data_1"),
        log("data_3", parent_id="data_2"),
    ]
    assert await sessions_of(FakeBus({"data_1": "sesh_old"}), *records) == ["sesh_new", "sesh_old", "sesh_old"]
    assert await sessions_of(FakeBus({"data_1": None}), *records) == ["sesh_new", None, None]


@pytest.mark.parametrize("length", [1, 2, 20_000])
async def test_loops_and_long_chains_of_parents_end_without_a_session(length: int) -> None:
    loop = [log(f"data_{at}", parent_id=f"data_{(at + 1) % length}") for at in range(length)]
    assert set(await sessions_of(FakeBus({}), *loop)) == {None}


async def test_logs_are_accepted_while_sessions_cannot_be_looked_up() -> None:
    records = [log("data_1", session_id="sesh_1"), log("data_2", parent_id="data_1"), log("data_3", parent_id="data_0")]
    assert await sessions_of(FakeBus(None), *records) == ["sesh_1", "sesh_1", None]
    assert await get_session_of_log(FakeBus(None).as_bus(), "tm_1", "data_0") is None


@pytest.mark.parametrize("known", [True, False])
async def test_the_response_and_the_stored_log_have_the_same_session(known: bool) -> None:
    version = ConfigVersion(id="config_1", project_id="pr_1", config=ModelConfig(model="gpt-4"), created_at=START)
    project = Project(id="pr_1", name="desk", created_at=START, updated_at=START)
    appended: list[bytes] = []

    async def resolve(*_: Any, **__: Any) -> ResolvedConfig:
        return ResolvedConfig(project=project, version=version)

    async def append(records: list[bytes]) -> None:
        appended.extend(records)

    gateway = SimpleNamespace(
        bus=FakeBus({PARENT: "sesh_1"} if known else None),
        project_cache=SimpleNamespace(resolve=resolve, set_project_of_log=lambda *_: None),
        logs=SimpleNamespace(append=append),
        fair_order=FairOrder(),
    )
    body = LogRequest.model_validate({"project": "desk", "config": {"model": "gpt-4"}, "parent_id": PARENT})
    answer = await logs.log(body, CALLER, cast("Gateway", gateway))
    (stored,) = map(LogRecord.model_validate_json, appended)
    assert stored.session_id == ("sesh_1" if known else None)
    assert stored.parent_id == PARENT
    assert (b'"session_id":"sesh_1"' in answer.body) == known
