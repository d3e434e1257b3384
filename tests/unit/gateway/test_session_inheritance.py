"""Logs that name a parent and no session, with a bus written by hand."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.gateway.deps import Gateway
from services.gateway.routes import logs
from services.gateway.schemas.logs import LogRequest
from services.gateway.session_inheritance import session_of, with_sessions
from shared import ids
from shared.bus import Bus
from shared.contracts.logs import GetSessionsOfLogs, LogRecord, SessionsOfLogs
from shared.contracts.principal import Principal
from shared.contracts.projects import ConfigVersion, ModelConfig, Project, Resolved
from shared.errors import Unavailable
from tests.unit.logging.builders import START, log

CALLER = Principal(organisation="tm_1", role="Admin", key_id="key_1", user_id="usr_1", email="ada@example.org")
PARENT = ids.mint("data")


class Logging:
    """Answers with the sessions it knows; None: nobody is there."""

    def __init__(self, sessions: dict[str, str | None] | None) -> None:
        self.sessions = sessions
        self.asked: list[list[str]] = []

    async def request(self, query: GetSessionsOfLogs, *, timeout_seconds: float) -> SessionsOfLogs:
        assert timeout_seconds <= 1
        assert query.organisation == "tm_1"
        self.asked.append(query.log_ids)
        if self.sessions is None:
            raise Unavailable("away")
        return SessionsOfLogs(sessions={key: value for key, value in self.sessions.items() if key in query.log_ids})

    @property
    def bus(self) -> Bus:
        return cast("Bus", self)


async def placed(logging: Logging, *records: LogRecord) -> list[str | None]:
    return [it.session_id for it in await with_sessions(logging.bus, "tm_1", list(records))]


async def test_a_log_is_in_the_session_of_its_parent() -> None:
    logging = Logging({"data_1": "sesh_1", "data_2": None})
    assert await session_of(logging.bus, "tm_1", "data_1") == "sesh_1"
    assert await session_of(logging.bus, "tm_1", "data_2") is None
    assert await session_of(logging.bus, "tm_1", "data_late") is None
    family = [log("data_3", parent_id="data_1"), log("data_4", parent_id="data_2"), log("data_5", parent_id="data_1")]
    assert await placed(logging, *family) == ["sesh_1", None, "sesh_1"]
    assert logging.asked[3:] == [["data_1", "data_2"]]


async def test_of_logs_with_a_session_or_without_a_parent_nobody_is_asked() -> None:
    logging = Logging(None)
    records = [log("data_1"), log("data_2", session_id="sesh_2", parent_id="data_1")]
    assert await placed(logging, *records) == [None, "sesh_2"]
    assert logging.asked == []


async def test_parents_of_the_same_call_count_in_any_order() -> None:
    family = [
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
    known = {"data_outside": "sesh_9"}
    assert await placed(Logging(known), *family) == expected
    assert await placed(Logging(known), *reversed(family)) == expected[::-1]


async def test_what_is_stored_outranks_the_call() -> None:
    """As it does in logging: the second log of a reference is the first one."""
    family = [
        log("data_1", session_id="sesh_new"),
        log("data_2", parent_id="data_1"),
        log("data_3", parent_id="data_2"),
    ]
    assert await placed(Logging({"data_1": "sesh_old"}), *family) == ["sesh_new", "sesh_old", "sesh_old"]
    assert await placed(Logging({"data_1": None}), *family) == ["sesh_new", None, None]


@pytest.mark.parametrize("length", [1, 2, 20_000])
async def test_a_loop_and_a_long_line_come_to_an_end(length: int) -> None:
    loop = [log(f"data_{at}", parent_id=f"data_{(at + 1) % length}") for at in range(length)]
    assert set(await placed(Logging({}), *loop)) == {None}


async def test_logs_are_accepted_while_nobody_can_say_where_their_parents_are() -> None:
    family = [log("data_1", session_id="sesh_1"), log("data_2", parent_id="data_1"), log("data_3", parent_id="data_0")]
    assert await placed(Logging(None), *family) == ["sesh_1", "sesh_1", None]
    assert await session_of(Logging(None).bus, "tm_1", "data_0") is None


@pytest.mark.parametrize("known", [True, False])
async def test_the_answer_and_the_log_agree(known: bool) -> None:
    version = ConfigVersion(id="config_1", project_id="pr_1", config=ModelConfig(model="gpt-4"), created_at=START)
    project = Project(id="pr_1", name="desk", created_at=START, updated_at=START)
    appended: list[bytes] = []

    async def resolve(*_: Any, **__: Any) -> Resolved:
        return Resolved(project=project, version=version)

    async def append(records: list[bytes]) -> None:
        appended.extend(records)

    gateway = SimpleNamespace(
        bus=Logging({PARENT: "sesh_1"} if known else None),
        project_cache=SimpleNamespace(resolve=resolve, note_log=lambda *_: None),
        logs=SimpleNamespace(append=append),
    )
    body = LogRequest.model_validate({"project": "desk", "config": {"model": "gpt-4"}, "parent_id": PARENT})
    answer = await logs.log(body, CALLER, cast("Gateway", gateway))
    (stored,) = map(LogRecord.model_validate_json, appended)
    assert stored.session_id == ("sesh_1" if known else None)
    assert stored.parent_id == PARENT
    assert (b'"session_id":"sesh_1"' in answer.body) == known
