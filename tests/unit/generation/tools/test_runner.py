"""ToolRunner: which tool a call finds, what it is run with, what is cached, and what is refused."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from pydantic import SecretStr

from services.generation.http.guarded_client import GuardedClient
from services.generation.store import StoredTool, ToolStore
from services.generation.templates.template import ToolReference
from services.generation.tools import registry
from services.generation.tools.base import Invocation, ToolKind, ToolServices
from services.generation.tools.runner import ToolRunner
from shared import telemetry
from shared.bus import Bus
from shared.contracts.chat import InlineTool, LinkedTool, ToolResult
from shared.contracts.generation.tools import TOOL_SETTINGS, ToolChanged, UpdateTool
from shared.contracts.principal import Principal
from shared.encryption import SecretBox
from shared.errors import Invalid, RateLimited, Unavailable, UpstreamFailed

SECRET_BOX = SecretBox(SecretStr("x" * 43 + "="))
SERVICES = ToolServices(GuardedClient(), "", "", "")


class MemoryTools:
    """ToolStore in a list; counts the reads, and is away while `problem` is set."""

    def __init__(self, *tools: StoredTool) -> None:
        self.tools = {"tm_1": list(tools)}
        self.reads = 0
        self.problem: Exception | None = None

    async def _find(self, organisation: str, field: str, value: str) -> StoredTool | None:
        self.reads += 1
        if self.problem:
            raise self.problem
        return next((tool for tool in self.tools.get(organisation, ()) if getattr(tool, field) == value), None)

    async def find_by_name(self, organisation: str, name: str) -> StoredTool | None:
        return await self._find(organisation, "name", name)

    async def get(self, organisation: str, tool_id: str) -> StoredTool | None:
        return await self._find(organisation, "id", tool_id)


class MemoryBus:
    """Records events in the order of their publication, and the callback of the subscription."""

    def __init__(self) -> None:
        self.events: list[tuple[ToolChanged, str]] = []
        self.callback: Callable[[ToolChanged | None], None] | None = None
        self.on_publish: Callable[[], Awaitable[None]] | None = None

    async def publish_event(self, event: ToolChanged, *, message_id: str) -> None:
        if self.on_publish:
            await self.on_publish()
        self.events.append((event, message_id))

    async def subscribe(self, event: type[ToolChanged], callback: Callable[[ToolChanged | None], None]) -> None:
        assert event is ToolChanged
        self.callback = callback


def tool(name: str, kind: str = "snippet", *, sealed: str | None = None, **fields: Any) -> StoredTool:
    if kind == "snippet":
        fields = {"pairs": [{"key": "a", "value": f"{name} says a"}]} | fields
    settings = TOOL_SETTINGS.validate_python({"kind": kind} | fields)
    return StoredTool(id=f"oc_{name}", name=name, settings=settings, sealed=sealed)


def call(name: str, *arguments: str) -> ToolReference:
    return ToolReference(f"{name}({', '.join(arguments)})", name, arguments)


def make(store: MemoryTools, bus: MemoryBus | None = None) -> ToolRunner:
    return ToolRunner(cast("ToolStore", store), SECRET_BOX, SERVICES, cast("Bus", bus or MemoryBus()))


def replace_google(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[Invocation[Any], ToolServices], Awaitable[str]]
) -> None:
    """Let google tools be run by `run`, as the real ones call a service."""
    monkeypatch.setitem(registry.KINDS, "google", ToolKind(lambda _: ("query",), run))


async def test_each_call_is_run_with_its_arguments_and_results_keep_the_order_of_the_calls() -> None:
    results = await make(MemoryTools(tool("one"), tool("two"))).run_all("tm_1", [call("two", "a"), call("one", "a")])
    assert results == [
        ToolResult(id="oc_two", name="two", signature="two(a)", result="two says a"),
        ToolResult(id="oc_one", name="one", signature="one(a)", result="one says a"),
    ]


async def test_calls_run_concurrently(monkeypatch: pytest.MonkeyPatch) -> None:
    both = asyncio.Barrier(2)

    async def run(invocation: Invocation[Any], _: ToolServices) -> str:
        await both.wait()
        return invocation.arguments[0]

    replace_google(monkeypatch, run)
    async with asyncio.timeout(2):
        results = await make(MemoryTools(tool("web", "google"))).run_all("tm_1", [call("web", "x"), call("web", "y")])
    assert [result.result for result in results] == ["x", "y"]


async def test_a_failed_call_cancels_the_others_and_is_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[str] = []

    async def run(invocation: Invocation[Any], _: ToolServices) -> str:
        if invocation.arguments == ("fail",):
            raise UpstreamFailed("It is down.", origin="SerpAPI")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(invocation.arguments[0])
            raise
        return ""

    replace_google(monkeypatch, run)
    with pytest.raises(UpstreamFailed, match=r"The tool 'web' failed\. It is down\."):
        await make(MemoryTools(tool("web", "google"))).run_all("tm_1", [call("web", "slow"), call("web", "fail")])
    assert cancelled == ["slow"]


async def test_an_unknown_tool_is_named_before_any_call_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_: Invocation[Any], __: ToolServices) -> str:
        pytest.fail("a call was run")

    replace_google(monkeypatch, run)
    with pytest.raises(Invalid, match="calls the tool 'nobody', but there is no tool of that name"):
        await make(MemoryTools(tool("web", "google"))).run_all("tm_1", [call("web", "x"), call("nobody")])


async def test_a_tool_of_another_organisation_is_unknown() -> None:
    tools = make(MemoryTools(tool("one")))
    await tools.run_all("tm_1", [call("one", "a")])
    with pytest.raises(Invalid, match="no tool of that name"):
        await tools.run_all("tm_2", [call("one", "a")])


async def test_a_request_makes_at_most_a_hundred_calls() -> None:
    pairs = [{"key": "a", "value": "x"}]
    tools = make(MemoryTools(tool("one", pairs=pairs)))
    hundred = [ToolReference(f"one({'a' * number})", "one", ("a",)) for number in range(100)]
    assert len(await tools.run_all("tm_1", hundred)) == 100
    with pytest.raises(Invalid, match="calls tools in 101 ways; 100 are the most"):
        await tools.run_all("tm_1", [*hundred, call("one", "a")])


@pytest.mark.parametrize("arguments", [(), ("a", "a")])
async def test_a_wrong_number_of_arguments_is_refused_with_the_signature(arguments: tuple[str, ...]) -> None:
    message = rf"'one' takes 1 arguments, as in one\(key\); 'as written' gives {len(arguments)}"
    with pytest.raises(Invalid, match=message):
        await make(MemoryTools()).run("tm_1", tool("one"), arguments, "as written")


async def test_a_json_schema_cannot_be_called_in_a_template() -> None:
    with pytest.raises(Invalid, match="'weather' is a JSON schema that models call"):
        await make(MemoryTools(tool("weather", "json_schema"))).run_all("tm_1", [call("weather")])


async def test_a_kind_gets_the_settings_the_decrypted_secrets_and_the_services(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    invoked: list[tuple[Invocation[Any], ToolServices]] = []

    async def run(invocation: Invocation[Any], services: ToolServices) -> str:
        invoked.append((invocation, services))
        return "found"

    replace_google(monkeypatch, run)
    with_secret = tool("web", "google", sealed=SECRET_BOX.encrypt({"serpapi_key": "k-1"}))
    assert (await make(MemoryTools()).run("tm_1", with_secret, ("x",), "web(x)")).result == "found"
    await make(MemoryTools()).run("tm_1", tool("web", "google"), ("x",), "web(x)")
    (first, services), (second, _) = invoked
    assert (first.settings, first.arguments, first.secrets) == (
        with_secret.settings, ("x",), {"serpapi_key": "k-1"},
    )  # fmt: skip
    assert services is SERVICES
    assert second.secrets == {}


async def test_a_problem_keeps_its_class_origin_and_delay_and_names_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_: Invocation[Any], __: ToolServices) -> str:
        raise RateLimited("Too many searches.", origin="SerpAPI", retry_after_seconds=7)

    replace_google(monkeypatch, run)
    with pytest.raises(RateLimited) as caught:
        await make(MemoryTools()).run("tm_1", tool("web", "google"), ("x",), "web(x)")
    assert caught.value.message == "The tool 'web' failed. Too many searches."
    assert (caught.value.origin, caught.value.retry_after_seconds) == ("SerpAPI", 7)


async def test_a_known_tool_is_not_read_again_and_works_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryTools(tool("one"))
    tools = make(store)
    for _ in range(3):
        await tools.run_all("tm_1", [call("one", "a")])
    assert store.reads == 1
    store.problem = Unavailable("The database is away.")
    monkeypatch.setattr("time.monotonic", lambda: 10.0**8)  # long after it was read
    assert (await tools.run_all("tm_1", [call("one", "a")]))[0].result == "one says a"
    assert store.reads == 2
    with pytest.raises(Unavailable):
        await tools.run_all("tm_1", [call("two", "a")])


async def test_a_change_is_invalidated_before_it_is_published_under_an_id_of_its_own() -> None:
    store, bus = MemoryTools(tool("one")), MemoryBus()
    tools = make(store, bus)
    await tools.run_all("tm_1", [call("one", "a")])
    store.tools["tm_1"] = [tool("one", pairs=[{"key": "a", "value": "changed"}])]
    seen_while_publishing: list[str] = []

    async def run_meanwhile() -> None:
        seen_while_publishing.append((await tools.run_all("tm_1", [call("one", "a")]))[0].result)

    bus.on_publish = run_meanwhile
    ada = Principal(kind="member", email="ada@example.org", organisation="tm_1")
    await tools.publish_change(UpdateTool(principal=ada, id="oc_one"), "oc_one", "updated", 4)
    assert seen_while_publishing == ["changed"]
    ((event, message_id),) = bus.events
    assert (event.organisation, event.tool_id, event.what) == ("tm_1", "oc_one", "updated")
    assert event.actor == ada.actor
    assert message_id == "oc_one.updated.4"


@pytest.mark.parametrize(
    ("change", "result"),
    [
        (ToolChanged(organisation="tm_1", tool_id="oc_other", what="updated"), "changed"),
        (ToolChanged(organisation="tm_2", tool_id="oc_one", what="updated"), "one says a"),
        (None, "changed"),
    ],
    ids=["of the organisation", "of another organisation", "after a reconnect"],
)
async def test_another_replicas_change_invalidates_the_tools_of_its_organisation(
    change: ToolChanged | None, result: str
) -> None:
    store, bus = MemoryTools(tool("one")), MemoryBus()
    tools = make(store, bus)
    await tools.subscribe()
    await tools.run_all("tm_1", [call("one", "a")])
    store.tools["tm_1"] = [tool("one", pairs=[{"key": "a", "value": "changed"}])]
    assert bus.callback
    bus.callback(change)
    assert (await tools.run_all("tm_1", [call("one", "a")]))[0].result == result


async def test_links_are_replaced_by_the_definitions_the_tools_have_now() -> None:
    fields: dict[str, Any] = {
        "description": "Rain?",
        "parameters": {"type": "object", "properties": {"city": {}}},
        "strict": True,
    }
    tools = make(MemoryTools(tool("weather", "json_schema", **fields)))
    own = InlineTool(name="own")
    link = LinkedTool(id="oc_weather", source="organization", name="old name", description="old description")
    resolved = await tools.resolve_links("tm_1", [own, link])
    assert resolved == [own, InlineTool(name="weather", source="organization", **fields)]


@pytest.mark.parametrize(
    ("link", "message"),
    [
        (LinkedTool(id="oc_gone", source="organization"), r"the tool 'oc_gone', but .* no tool of that id"),
        (LinkedTool(id="oc_gone", source="organization", name="rain"), r"the tool 'oc_gone' \(rain\), but"),
        (LinkedTool(id="oc_one", source="organization"), r"'one' \(oc_one\), which is a snippet tool"),
    ],
)
async def test_a_link_to_no_json_schema_is_refused(link: LinkedTool, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        await make(MemoryTools(tool("one"))).resolve_links("tm_1", [link])


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


async def test_a_call_is_a_span_named_after_the_tool(spans: InMemorySpanExporter) -> None:
    await make(MemoryTools()).run("tm_1", tool("one"), ("a",), "one(a)")
    span = only(spans)
    assert span.name == "execute_tool one"
    assert span.attributes == {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "one"}
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("error", "error_type"), [(UpstreamFailed("secret input"), "502"), (RuntimeError("secret input"), "RuntimeError")]
)
async def test_a_span_has_the_status_of_an_error_and_not_its_message(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, error: Exception, error_type: str
) -> None:
    async def run(_: Invocation[Any], __: ToolServices) -> str:
        raise error

    replace_google(monkeypatch, run)
    with pytest.raises(type(error)):
        await make(MemoryTools()).run("tm_1", tool("web", "google"), ("x",), "web(x)")
    span = only(spans)
    assert (span.attributes or {})["error.type"] == error_type
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, error_type)
    assert "secret input" not in span.to_json()
