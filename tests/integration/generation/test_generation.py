"""generation as a process of its own, on a real MongoDB and a real NATS, with a fake server for OpenAI."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from pydantic import SecretStr

from services.generation.completions.run import CALLER_DISCONNECTED
from shared import ids
from shared.contracts.chat import Usage
from shared.contracts.generation.generations import Chunk
from shared.contracts.generation.projects import (
    GetProjects,
    GetVersions,
    ModelConfig,
    ProjectRef,
    ResolveConfig,
    ResolvedConfig,
    ToolConfig,
)
from shared.contracts.principal import Role
from shared.encryption import SecretBox
from shared.errors import Invalid, NotFound, RateLimited, Unauthenticated, UpstreamFailed
from tests.integration.generation.stack import (
    GenerationStack,
    chat,
    collect_answer,
    complete,
    config,
    new_organisation,
    principal_of,
    run_generation_stack,
)
from tests.integration.servers import SECRET, until_ready
from tests.principals import member

OPENAI = {"provider": "openai", "model": "gpt-4-1106-preview"}


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GenerationStack]:
    """One place for all tests; each works in an organisation of its own."""
    async with run_generation_stack(tmp_path_factory.mktemp("generation")) as started:
        yield started


def resolve(
    org: str, given: ModelConfig | ToolConfig | None = None, role: Role = "Member", **fields: Any
) -> ResolveConfig:
    """A registration in the project `desk`."""
    return ResolveConfig(
        principal=principal_of(org, role), **{"project": ProjectRef(name="desk"), "config": given or config()} | fields
    )


async def deployed(stack: GenerationStack, org: str) -> str | None:
    """What is deployed in the default environment, seen from outside."""
    document = await stack.database["deployments"].find_one({"organisation": org})
    return document["config_id"] if document else None


class TestResolving:
    async def test_two_at_once_make_one_project_and_one_version(self, stack: GenerationStack) -> None:
        org = new_organisation()
        found: list[ResolvedConfig] = await asyncio.gather(*(stack.bus.request(resolve(org)) for _ in range(20)))
        assert len({resolved.project.id for resolved in found}) == 1
        assert len({resolved.version.id for resolved in found}) == 1
        assert ids.is_id("pr", found[0].project.id)
        assert ids.is_id("config", found[0].version.id)
        assert await stack.database["projects"].count_documents({"organisation": org}) == 1
        assert await stack.database["versions"].count_documents({"organisation": org}) == 1

    async def test_the_first_config_is_deployed_and_the_second_is_not(self, stack: GenerationStack) -> None:
        org = new_organisation()
        first = await stack.bus.request(resolve(org, role="Developer"))
        await stack.bus.request(resolve(org, config(temperature=0), role="Developer"))
        assert await deployed(stack, org) == first.version.id
        assert first.project.config_type == "model"

    async def test_of_first_configs_at_once_exactly_one_is_deployed(self, stack: GenerationStack) -> None:
        org = new_organisation()
        configs = [config(seed=number) for number in range(10)]
        found = await asyncio.gather(*(stack.bus.request(resolve(org, given, role="Developer")) for given in configs))
        assert await stack.database["deployments"].count_documents({"organisation": org}) == 1
        assert await deployed(stack, org) in {resolved.version.id for resolved in found}

    async def test_a_first_author_who_may_not_deploy_leaves_the_project_undeployed(
        self, stack: GenerationStack
    ) -> None:
        org = new_organisation()
        await stack.bus.request(resolve(org, role="Member"))
        await stack.bus.request(resolve(org, config(temperature=0), role="Developer"))
        await stack.bus.request(resolve(org, role="Developer"))
        assert await deployed(stack, org) is None

    async def test_open_json_comes_back_exactly(self, stack: GenerationStack) -> None:
        org = new_organisation()
        other = {"big": 10**30, "$dollar.key": {"a": None}, "": [1.5, True], "deep": json.loads("[" * 90 + "]" * 90)}
        made = await stack.bus.request(resolve(org, config(other=other)))
        found = await stack.bus.request(GetVersions(principal=member(org), ids=[made.version.id, "config_unknown"]))
        assert [version.config for version in found.versions] == [config(other=other)]

    async def test_a_tool_config_makes_a_tool_project(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = await stack.bus.request(resolve(org, ToolConfig(name="search")))
        assert made.project.config_type == "tool"
        found = await stack.bus.request(GetProjects(principal=member(org), ids=[made.project.id]))
        assert found.projects == [made.project]

    async def test_name_and_id_must_agree(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = await stack.bus.request(resolve(org))
        both = ProjectRef(name="desk", id=made.project.id)
        assert (await stack.bus.request(resolve(org, project=both))).project == made.project
        with pytest.raises(Invalid, match="not the same project"):
            await stack.bus.request(resolve(org, project=ProjectRef(name="other", id=made.project.id)))
        with pytest.raises(Invalid, match="project_id"):
            await stack.bus.request(resolve(org, project=ProjectRef()))

    async def test_another_organisation_sees_nothing(self, stack: GenerationStack) -> None:
        made, other = await stack.bus.request(resolve(new_organisation())), new_organisation()
        assert (await stack.bus.request(GetProjects(principal=member(other), ids=[made.project.id]))).projects == []
        assert (await stack.bus.request(GetVersions(principal=member(other), ids=[made.version.id]))).versions == []
        with pytest.raises(NotFound):
            await stack.bus.request(
                ResolveConfig(principal=member(other), project=ProjectRef(), config_id=made.version.id)
            )
        with pytest.raises(NotFound):
            await stack.bus.request(resolve(other, project=ProjectRef(id=made.project.id)))

    async def test_a_config_id_belongs_to_its_project(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = await stack.bus.request(resolve(org))
        await stack.bus.request(resolve(org, project=ProjectRef(name="other")))
        alone = ResolveConfig(principal=member(org), project=ProjectRef(), config_id=made.version.id)
        assert (await stack.bus.request(alone)).project.id == made.project.id
        with pytest.raises(Invalid, match="does not belong"):
            await stack.bus.request(alone.model_copy(update={"project": ProjectRef(name="other")}))


class TestCalling:
    async def test_a_chat_is_answered_and_logged(self, stack: GenerationStack) -> None:
        given = config(chat_template=[{"role": "system", "content": "Be {{ tone }}."}], model="mock")
        command = chat(config=given, inputs={"tone": "dry"}, user="u-1", source="test", metadata={"a": 1})
        _, generation = await collect_answer(stack.bus, command)
        assert [sample.output for sample in generation.samples] == ["hello there"]
        assert [message.content for message in generation.messages or ()] == ["Be dry.", "hello there"]
        assert generation.samples[0].finish_reason == "stop"
        (log,) = await stack.logs(*command.log_ids)
        assert (log.output, log.error, log.inputs, log.user, log.model) == (
            "hello there",
            None,
            {"tone": "dry"},
            "u-1",
            "mock",
        )
        assert log.messages == generation.messages
        assert log.provider_request is not None
        assert log.provider_request["messages"][0] == {"role": "system", "content": "Be dry."}
        assert log.project_id == generation.project_id
        assert log.prompt_tokens == 2

    async def test_every_sample_is_a_log_and_tokens_count_once(self, stack: GenerationStack) -> None:
        command = chat(num_samples=3)
        _, generation = await collect_answer(stack.bus, command)
        assert [sample.index for sample in generation.samples] == [0, 1, 2]
        logs = await stack.logs(*command.log_ids)
        assert [log.output for log in logs] == ["hello there"] * 3
        assert [log.tokens for log in logs] == [8, None, None]
        assert generation.usage == Usage(prompt_tokens=2, generation_tokens=6, total_tokens=8)
        assert generation.provider_request["n"] == 3
        assert len(generation.provider_responses) == 1

    async def test_a_stream_comes_in_increments_under_the_id_of_its_log(self, stack: GenerationStack) -> None:
        command = chat("one two three", stream=True, num_samples=2)
        chunks, generation = await collect_answer(stack.bus, command)
        for index, log_id in enumerate(command.log_ids):
            own = [chunk.sample for chunk in chunks if chunk.sample.index == index]
            assert {sample.id for sample in own} == {log_id}
            assert "".join(sample.raw_output for sample in own) == "one two three"
            assert [sample.finish_reason for sample in own] == [None, None, None, "stop"]
            assert own[-1].output == ""
        logs = await stack.logs(*command.log_ids)
        assert [log.output for log in logs] == ["one two three"] * 2
        assert generation.usage.total_tokens == sum(log.tokens or 0 for log in logs) == 12

    async def test_tool_calls_are_complete_in_the_last_chunk(self, stack: GenerationStack) -> None:
        tools = [{"name": "weather"}, {"name": "clock"}]
        command = chat(stream=True, config=config(model="mock-tools-2", tools=tools))
        chunks, generation = await collect_answer(stack.bus, command)
        calls = chunks[-1].sample.tool_calls or []
        assert [call.function.name for call in calls] == ["weather", "clock"]
        assert chunks[-1].sample.finish_reason == "tool_call"
        assert generation.samples[0].output == ""
        (log,) = await stack.logs(*command.log_ids)
        assert log.output_message is not None
        assert log.output_message.tool_calls == calls

    async def test_a_refusal_is_raised_logged_and_announced(self, stack: GenerationStack) -> None:
        command = chat(config=config(model="mock-error-429"), inputs={"kept": 1})
        with pytest.raises(RateLimited) as caught:
            await collect_answer(stack.bus, command)
        assert caught.value.origin == "Mock"
        (log,) = await stack.logs(*command.log_ids)
        assert log.error == "The mock provider fails with status 429, as asked."
        assert log.inputs == {"kept": 1}
        assert log.output is None
        events = [json.loads(payload) for payload in await stack.messages("EVENTS")]
        assert [event["status"] for event in events if event.get("log_ids") == command.log_ids] == [429]

    async def test_a_missing_input_is_logged_too(self, stack: GenerationStack) -> None:
        given = config(chat_template=[{"role": "system", "content": "{{ b }} {{a}}"}])
        command = chat(config=given)
        with pytest.raises(Invalid, match=r"variables: \['a', 'b'\]"):
            await collect_answer(stack.bus, command)
        (log,) = await stack.logs(*command.log_ids)
        assert "['a', 'b']" in (log.error or "")

    async def test_a_stream_that_breaks_leaves_what_came(self, stack: GenerationStack) -> None:
        command = chat("one two three four", stream=True, config=config(model="mock-broken"))
        with pytest.raises(UpstreamFailed):
            await collect_answer(stack.bus, command)
        (log,) = await stack.logs(*command.log_ids)
        assert log.output == "one two"
        assert log.error

    async def test_a_stream_whose_caller_left_leaves_what_came(self, stack: GenerationStack) -> None:
        command = chat("one two three four", stream=True, config=config(other={"chunk_delay_seconds": 0.2}))
        async with aclosing(stack.bus.stream_request(command, Chunk)) as parts:
            await anext(parts)
            await anext(parts)
        log = await self._eventually(stack, command.log_ids[0])
        assert log.output == "one two"
        assert log.error == CALLER_DISCONNECTED
        assert log.finish_reason is None
        assert log.output_tokens == 2

    async def test_an_answer_nobody_waits_for_is_logged_too(self, stack: GenerationStack) -> None:
        command = chat(config=config(model="mock-slow-30"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await collect_answer(stack.bus, command)
        log = await self._eventually(stack, command.log_ids[0])
        assert log.error == CALLER_DISCONNECTED

    @staticmethod
    async def _eventually(stack: GenerationStack, log_id: str) -> Any:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if found := [record for record in await stack.recorded() if record.id == log_id]:
                assert len(found) == 1
                return found[0]
            await asyncio.sleep(0.05)
        pytest.fail("nothing was logged")

    async def test_save_false_keeps_no_content(self, stack: GenerationStack) -> None:
        command = chat("a secret", save=False, inputs={"who": "me"})
        _, generation = await collect_answer(stack.bus, command)
        assert generation.samples[0].output == "a secret"
        (log,) = await stack.logs(*command.log_ids)
        assert "a secret" not in log.model_dump_json()
        assert log.inputs == {}
        assert log.tokens == 4

    async def test_a_completion_logs_no_messages(self, stack: GenerationStack) -> None:
        command = complete()
        _, generation = await collect_answer(stack.bus, command)
        assert generation.samples[0].output == "Say hi."
        assert generation.messages is None
        (log,) = await stack.logs(*command.log_ids)
        assert (log.messages, log.output) == (None, "Say hi.")


class TestChoosingTheConfig:
    async def test_what_is_deployed_is_called_and_the_environment_noted(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = await stack.bus.request(resolve(org, role="Developer"))
        command = chat(organisation=org, config=None, deployed=True)
        _, generation = await collect_answer(stack.bus, command)
        assert generation.config_id == made.version.id
        (log,) = await stack.logs(*command.log_ids)
        assert log.environment == "production"
        with pytest.raises(NotFound, match="no environment 'staging'"):
            await collect_answer(stack.bus, chat(organisation=org, config=None, deployed=True, environment="staging"))
        with pytest.raises(Invalid, match="endpoint 'chat'"):
            await collect_answer(stack.bus, complete(organisation=org, config=None, deployed=True))

    async def test_nothing_deployed(self, stack: GenerationStack) -> None:
        org = new_organisation()
        with pytest.raises(NotFound, match="no project 'desk'"):
            await collect_answer(stack.bus, chat(organisation=org, config=None, deployed=True))
        await stack.bus.request(resolve(org))
        with pytest.raises(NotFound, match="nothing deployed in 'production'"):
            await collect_answer(stack.bus, chat(organisation=org, config=None, deployed=True))

    async def test_a_config_id_alone_is_enough(self, stack: GenerationStack) -> None:
        org = new_organisation()
        made = await stack.bus.request(resolve(org))
        by_id: dict[str, Any] = {
            "organisation": org,
            "config": None,
            "config_id": made.version.id,
            "project": ProjectRef(),
        }
        _, generation = await collect_answer(stack.bus, chat(**by_id))
        assert (generation.project_id, generation.config_id) == (made.project.id, made.version.id)
        with pytest.raises(Invalid, match="endpoint"):
            await collect_answer(stack.bus, complete(**by_id))
        with pytest.raises(NotFound):
            await collect_answer(stack.bus, chat(**by_id | {"config_id": ids.mint("config")}))

    async def test_an_inline_config_needs_a_project(self, stack: GenerationStack) -> None:
        with pytest.raises(Invalid, match="project_id"):
            await collect_answer(stack.bus, chat(project=ProjectRef()))


class TestOpenAI:
    async def test_the_key_of_the_request_wins(self, stack: GenerationStack) -> None:
        command = chat(config=config(**OPENAI))
        await collect_answer(stack.bus, command)
        assert stack.upstream.last.key == "sk-installation"
        sealed = SecretBox(SecretStr(SECRET)).encrypt({"openai": "sk-request", "cohere": "other"})
        _, generation = await collect_answer(stack.bus, command.model_copy(update={"sealed_keys": sealed}))
        assert stack.upstream.last.key == "sk-request"
        assert "sk-" not in generation.model_dump_json()
        (log,) = await stack.logs(*command.log_ids)
        assert "sk-" not in log.model_dump_json()

    async def test_a_request_value_wins_over_the_config_and_makes_no_version(self, stack: GenerationStack) -> None:
        org = new_organisation()
        given = config(**OPENAI, seed=1)
        _, first = await collect_answer(stack.bus, chat("json", organisation=org, config=given))
        _, second = await collect_answer(
            stack.bus, chat("json", organisation=org, config=given, seed=2, response_format={"type": "json_object"})
        )
        assert stack.upstream.last.body["seed"] == 2
        assert stack.upstream.last.body["response_format"] == {"type": "json_object"}
        assert first.config_id == second.config_id

    async def test_output_is_trimmed_and_raw_output_is_not(self, stack: GenerationStack) -> None:
        stack.upstream.reply(content="  padded \n")
        _, generation = await collect_answer(stack.bus, chat(config=config(**OPENAI)))
        assert (generation.samples[0].output, generation.samples[0].raw_output) == ("padded", "  padded \n")

    async def test_a_stream_of_samples_is_a_request_each(self, stack: GenerationStack) -> None:
        stack.upstream.clear()
        chunks, generation = await collect_answer(stack.bus, chat(config=config(**OPENAI), num_samples=2, stream=True))
        assert len(stack.upstream.requests) == 2
        assert {chunk.sample.index for chunk in chunks} == {0, 1}
        assert generation.usage.total_tokens == 34
        assert len(generation.provider_responses) == 2

    async def test_one_sample_of_several_fails(self, stack: GenerationStack) -> None:
        stack.upstream.clear()
        stack.upstream.reply(status=400, error={"message": "no luck"})
        command = chat(config=config(**OPENAI), num_samples=2, stream=True)
        with pytest.raises(Invalid, match="no luck"):
            await collect_answer(stack.bus, command)
        logs = await stack.logs(*command.log_ids)
        assert sorted(log.error or "" for log in logs) == ["", "no luck"]
        assert sorted(log.output or "" for log in logs) == ["", "Fine, thank you."]

    async def test_errors_name_their_origin(self, stack: GenerationStack) -> None:
        stack.upstream.reply(status=400, error={"message": "too long"})
        with pytest.raises(Invalid, match="too long") as caught:
            await collect_answer(stack.bus, chat(config=config(**OPENAI)))
        assert caught.value.origin == "OpenAI"
        stack.upstream.reply(status=401, error={"message": "wrong key sk-installation"})
        with pytest.raises(Unauthenticated, match=r"wrong key \*\*\*"):
            await collect_answer(stack.bus, chat(config=config(**OPENAI)))

    async def test_without_a_key_both_ways_to_give_one_are_named(self, stack: GenerationStack) -> None:
        with pytest.raises(Unauthenticated, match=r"provider_api_keys\.groq .* GROQ_API_KEY"):
            await collect_answer(stack.bus, chat(config=config(provider="groq", model="llama")))

    async def test_other_providers_and_the_local_model_are_not_there(self, stack: GenerationStack) -> None:
        with pytest.raises(Invalid, match="provider 'ai21'"):
            await collect_answer(stack.bus, chat(config=config(provider="ai21", model="j2")))
        with pytest.raises(Invalid, match="is not running"):
            await collect_answer(stack.bus, chat(config=config(provider="openai", model="smollm2-135m-instruct")))


class TestWithoutTheDatabase:
    async def test_known_configs_go_on_being_called(self, stack: GenerationStack) -> None:
        org = new_organisation()
        known = chat(organisation=org, principal=principal_of(org))
        await collect_answer(stack.bus, known)
        active = chat(organisation=org, config=None, deployed=True)
        await collect_answer(stack.bus, active)
        await asyncio.sleep(1.1)  # what is deployed is remembered for a second
        stack.mongo.pause()
        try:
            for command in (known, active):
                again = command.model_copy(update={"log_ids": [ids.mint("data")]})
                started = time.monotonic()
                _, generation = await collect_answer(stack.bus, again)
                assert time.monotonic() - started < 1
                assert generation.samples[0].output == "hello there"
                assert len(await stack.logs(*again.log_ids)) == 1
        finally:
            stack.mongo.resume()
        assert (await until_ready(stack.bus, "generation")).parts == {"bus": True, "database": True}
