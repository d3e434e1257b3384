"""Seed rows 56-60: the Python SDK (behaviour.md §23 H)."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from services.gateway.settings import Settings as GatewaySettings
from services.generation.settings import Settings as GenerationSettings
from shared.settings import ServiceSettings
from tests import stack as stacks
from tests.calls import Json, ok, reference
from tests.fake_servers import openai as fake_openai
from tests.fake_servers.openai import FakeOpenAI
from tests.sdk_scripts import SdkScripts
from tests.stack import Stack

CLOCKS: dict[str, type[ServiceSettings]] = {
    "bus_heartbeat_seconds": GenerationSettings,
    "bus_silence_seconds": GatewaySettings,
    "provider_read_seconds": GenerationSettings,
    "provider_total_seconds": GenerationSettings,
    "http_keep_alive_seconds": GatewaySettings,
}
"""Every setting whose time passes while a provider thinks, and a class that has it."""
SDK_SECONDS = 600
"""How long the client libraries wait unless told otherwise."""
CALLS = [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_row_56_answers_are_models(sdk: str, request: pytest.FixtureRequest, openai: FakeOpenAI) -> None:
    openai.reply(content="Hello.")
    seen = request.getfixturevalue(sdk).run("generation/response_models.py", project=f"row-56-{reference()}")
    assert seen["config_id"].startswith("config_")
    assert seen["project_id"].startswith("pr_")
    assert (seen["output"], seen["message"], seen["usage"]) == ("Hello.", "Hello.", 17)
    assert seen["registered"] != "dict"
    assert seen["config"] != "dict"
    assert seen["log_config_id"] in (seen["config_id"], None)


@pytest.mark.parametrize("sdk", ["sdk735", "sdk700"])
def test_row_57_the_raw_namespace_gives_status_headers_and_body(
    sdk: str, request: pytest.FixtureRequest, openai: FakeOpenAI
) -> None:
    openai.reply(content="Hello.")
    seen = request.getfixturevalue(sdk).run("generation/raw_response.py", project=f"row-57-{reference()}")
    assert seen == {"status": 200, "content_type": "application/json", "output": "Hello."}


def test_row_58_sdk_0_5_18_chats_completes_logs_and_streams(sdk518: SdkScripts, openai: FakeOpenAI) -> None:
    openai.reply(content=None, tool_calls=CALLS)
    for content in ("Wet.", "Hi.", "Once upon a time"):
        openai.reply(content=content)
    seen = sdk518.run("generation/sdk518_calls.py", project=f"row-58-{reference()}", session_reference_id=reference())
    assert seen["tool_calls"] == CALLS
    assert (seen["again"], seen["completion"]) == ("Wet.", "Hi.")
    assert (seen["datapoints"], seen["projects"]) == (4, 3)
    assert (seen["rating"], seen["rating_id"][:4], seen["nothing"]) == ("good", "ann_", None)
    assert seen["array"] == [["action", "copied"], ["rating", "good"]]
    assert "".join(text for _, text in seen["chunks"]).strip() == "Once upon a time"
    assert len({identifier for identifier, _ in seen["chunks"]}) == 1
    assert openai.requests[1].body["messages"][2] == {"role": "tool", "content": "wet", "tool_call_id": "call_1"}


@dataclass(frozen=True)
class SlowCalls:
    """A stack whose clocks all run `faster` than by default, and calls that outlast most of them."""

    stack: Stack
    upstream: FakeOpenAI
    clocks: dict[str, float]
    row_59: "Future[Any]"
    """320 s, with the client's default time limit."""
    row_60: "Future[Any]"
    """650 s, with a limit of 1000 s."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(25, id="fast clocks"), pytest.param(1, id="true clocks", marks=pytest.mark.long)],
)
def slow_calls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowCalls]:
    """The calls are under way when this returns."""
    faster: int = request.param
    slow, slower = fake_openai.start(), fake_openai.start()
    slow.reply(content="At last.", delay_seconds=320 / faster)
    slower.reply(content="At long last.", delay_seconds=650 / faster)
    clocks = {name: settings.model_fields[name].default / faster for name, settings in CLOCKS.items()}
    environment = {f"EVERLOOP_{name.upper()}": str(seconds) for name, seconds in clocks.items()}
    environment |= {"OPENAI_BASE_URL": slow.url, "GROQ_BASE_URL": slower.url, "GROQ_API_KEY": "gsk-of-the-house"}
    default = {} if faster == 1 else {"timeout": SDK_SECONDS / faster}
    groq = {"model": "m", "provider": "groq"}
    running = stacks.start(tmp_path_factory.mktemp("slow_calls"), "--no-model", environment=environment)
    run = SdkScripts(".venv-sdk735", running).run
    with ThreadPoolExecutor() as pool:
        yield SlowCalls(
            stack=running,
            upstream=slow,
            clocks=clocks,
            row_59=pool.submit(
                run, "generation/chat_with_timeout.py", project="row-59", model_config={"model": "gpt-4"}, **default
            ),
            row_60=pool.submit(
                run, "generation/chat_with_timeout.py", project="row-60", model_config=groq, timeout=1000 / faster
            ),
        )
        running.stop()


def test_row_59_the_timeouts_of_the_stack_are_the_ones_set(slow_calls: SlowCalls) -> None:
    """An idle connection is closed when its time is over; that of one with a call under way does not pass."""
    seconds, began = slow_calls.clocks["http_keep_alive_seconds"], time.monotonic()
    host, _, port = slow_calls.stack.base_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=2 * seconds + 5) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        while idle.recv(4096):
            pass
    assert seconds * 0.9 < time.monotonic() - began < 2 * seconds + 5


def test_row_59_an_answer_after_320_s_reaches_a_client_with_default_settings(slow_calls: SlowCalls) -> None:
    assert slow_calls.row_59.result() == {"output": "At last."}
    assert slow_calls.upstream.last.body["messages"] == [{"role": "user", "content": "Take your time"}]


def test_row_60_a_client_may_wait_longer_than_600_s(slow_calls: SlowCalls) -> None:
    assert slow_calls.row_60.result() == {"output": "At long last."}


def test_row_60_a_client_that_gives_up_leaves_a_log(sdk735: SdkScripts, api: httpx.Client) -> None:
    project = f"row-60-{reference()}"
    slow = {"model": "mock", "provider": "mock", "other": {"delay_seconds": 30}}
    assert (
        sdk735.run("generation/chat_with_timeout.py", project=project, model_config=slow, timeout=1)["error"]
        == "TimeoutError"
    )
    deadline = time.monotonic() + 10
    logs: list[Json] = []
    while not logs and time.monotonic() < deadline:
        projects = ok(api.get("/projects", params={"filter": project}))["records"]
        logs = projects and ok(api.get("/logs", params={"project_id": projects[0]["id"]}))["records"]
        time.sleep(0.1)
    (log,) = logs
    assert log["output"] is None
    assert "left" in log["error"]
