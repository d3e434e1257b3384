"""Tools with two replicas of generation: a change is in the very next call, wherever it is taken up."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from shared import ids
from shared.contracts.generation.tools import (
    CreateTool,
    DeleteTool,
    GetTools,
    ListTools,
    Pair,
    RunTool,
    Snippet,
    Tool,
    ToolChanged,
    UpdateTool,
)
from shared.contracts.message import Request
from shared.encryption import SecretBox
from shared.errors import Conflict, Invalid, NotFound, Unavailable
from tests.integration.generation.stack import (
    GenerationStack,
    chat,
    collect_answer,
    config,
    new_organisation,
    run_generation_stack,
)
from tests.integration.servers import SECRET, running, service
from tests.principals import member


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GenerationStack]:
    """Two replicas; each test works in an organisation of its own."""
    folder, beside = tmp_path_factory.mktemp("tools"), tmp_path_factory.mktemp("beside")
    async with run_generation_stack(folder) as started:
        second = service("generation", beside, started.nats, started.mongo)
        with running(second):
            async with asyncio.timeout(20):
                while '"ready"' not in second.log.read_text():  # noqa: ASYNC110 - a file tells nobody
                    await asyncio.sleep(0.05)
            yield started


def snippet(**passages: str) -> Snippet:
    return Snippet(pairs=[Pair(key=key, value=value) for key, value in passages.items()])


async def created(stack: GenerationStack, org: str, **fields: Any) -> Tool:
    """A snippet tool named `assistant`."""
    command = CreateTool(principal=member(org), **{"name": "assistant", "settings": snippet(a="first")} | fields)
    return await stack.bus.request(command)


async def says(stack: GenerationStack, org: str) -> str:
    """What a prompt gets from `assistant("a")` at this moment."""
    given = config(chat_template=[{"role": "system", "content": '{{ assistant("a") }}'}])
    _, generation = await collect_answer(stack.bus, chat(organisation=org, config=given))
    return str((generation.messages or [])[0].content)


async def test_a_change_is_in_every_replicas_next_call(stack: GenerationStack) -> None:
    org = new_organisation()
    tool = await created(stack, org)
    assert {await says(stack, org) for _ in range(10)} == {"first"}
    for number in range(10):
        text = f"text {number}"
        await stack.bus.request(
            UpdateTool(principal=member(org), id=tool.id, changes={"pairs": [{"key": "a", "value": text}]})
        )
        assert set(await asyncio.gather(*(says(stack, org) for _ in range(8)))) == {text}
    await stack.bus.request(DeleteTool(principal=member(org), id=tool.id))
    for said in await asyncio.gather(*(says(stack, org) for _ in range(8)), return_exceptions=True):
        assert isinstance(said, Invalid)


async def test_changes_at_the_same_moment_are_all_kept(stack: GenerationStack) -> None:
    org = new_organisation()
    tool = await created(stack, org)
    await asyncio.gather(
        stack.bus.request(UpdateTool(principal=member(org), id=tool.id, name="renamed")),
        stack.bus.request(
            UpdateTool(principal=member(org), id=tool.id, changes={"pairs": [{"key": "b", "value": "second"}]})
        ),
    )
    (found,) = (await stack.bus.request(GetTools(principal=member(org), ids=[tool.id]))).tools
    assert (found.name, found.settings) == ("renamed", snippet(b="second"))


async def test_a_repeat_makes_nothing_new(stack: GenerationStack) -> None:
    org, tool_id = new_organisation(), ids.mint("oc")
    made = await asyncio.gather(*(created(stack, org, id=tool_id) for _ in range(8)))
    assert {tool.id for tool in made} == {tool_id}
    assert len((await stack.bus.request(ListTools(principal=member(org)))).tools) == 1
    with pytest.raises(Conflict):
        await created(stack, org)


async def test_another_organisation_sees_nothing(stack: GenerationStack) -> None:
    tool, other = await created(stack, new_organisation()), new_organisation()
    assert (await stack.bus.request(ListTools(principal=member(other)))).tools == []
    assert (await stack.bus.request(GetTools(principal=member(other), ids=[tool.id]))).tools == []
    commands: list[Request[Any]] = [
        UpdateTool(principal=member(other), id=tool.id, name="mine"),
        DeleteTool(principal=member(other), id=tool.id),
        RunTool(principal=member(other), id=tool.id, arguments=["a"]),
    ]
    for command in commands:
        with pytest.raises(NotFound):
            await stack.bus.request(command)
    with pytest.raises(Invalid, match="no tool of that name"):
        await says(stack, other)
    assert (await created(stack, other)).id != tool.id


async def test_secrets_are_encrypted_wherever_they_rest(stack: GenerationStack) -> None:
    org, secret = new_organisation(), "sk-very-secret-0123456789"
    sealed = SecretBox(SecretStr(SECRET)).encrypt({"serpapi_key": secret})
    tool = await created(stack, org, settings={"kind": "google"}, sealed_secrets=sealed)
    assert tool.secrets == {"serpapi_key": "6789"}
    document = await stack.database["tools"].find_one({"_id": tool.id})
    assert document
    assert secret not in str(document)
    assert SecretBox(SecretStr(SECRET)).decrypt(document["sealed"]) == {"serpapi_key": secret}
    assert all(secret.encode() not in message for message in await stack.messages("EVENTS"))
    assert secret not in stack.generation.log.read_text()


async def test_what_happens_to_a_tool_is_announced(stack: GenerationStack) -> None:
    org = new_organisation()
    tool = await created(stack, org)
    await stack.bus.request(UpdateTool(principal=member(org), id=tool.id, name="renamed"))
    await stack.bus.request(DeleteTool(principal=member(org), id=tool.id))
    events = [one for one in await stack.messages("EVENTS") if org.encode() in one and b'"tool_id"' in one]
    assert [ToolChanged.model_validate_json(event).what for event in events] == ["created", "updated", "deleted"]


async def test_a_known_tool_is_known_while_the_database_is_away(stack: GenerationStack) -> None:
    org = new_organisation()
    await created(stack, org)
    for _ in range(20):
        await says(stack, org)
    stack.mongo.pause()
    try:
        assert {await says(stack, org) for _ in range(4)} == {"first"}
        with pytest.raises(Unavailable):
            await stack.bus.request(ListTools(principal=member(org)))
    finally:
        stack.mongo.resume()
