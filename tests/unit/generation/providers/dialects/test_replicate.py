"""The wire language of Replicate, with plain dicts."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.models.request import Json, ModelRequest, ResponseDelta, StreamAccumulator
from services.generation.providers.base import PreparedRequest, StubResponse
from services.generation.providers.dialects import replicate
from services.generation.providers.requests import Providers
from services.generation.providers.transport.client import Client
from shared.contracts.chat import ChatMessage, Usage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, UpstreamFailed

MODEL = "meta/meta-llama-3-70b-instruct"
ADDRESS = "http://inside.test"


def request(*messages: tuple[Any, str], stream: bool = False, **fields: Any) -> ModelRequest:
    config = ModelConfig.model_validate({"provider": "replicate", "model": MODEL, "endpoint": "chat"} | fields)
    history = [ChatMessage(role=role, content=text) for role, text in messages or (("user", "hi"),)]
    return ModelRequest(config, history, stream=stream)


def call(*, stream: bool = False, **fields: Any) -> PreparedRequest:
    providers = Providers({"REPLICATE_BASE_URL": ADDRESS, "REPLICATE_API_TOKEN": "r8-secret"}, None)
    return providers.prepare(request(stream=stream, **fields), {})[0]


class TestBody:
    def test_inputs(self) -> None:
        given = request(
            ("system", "Be brief."), ("user", "hi"), temperature=0.5, max_tokens=9, stop=["a", "b"], other={"top_k": 3}
        )
        assert replicate.body(given) == {
            "input": {
                "prompt": "hi",
                "system_prompt": "Be brief.",
                "max_tokens": 9,
                "temperature": 0.5,
                "top_p": 1,
                "stop_sequences": "a,b",
                "top_k": 3,
            }
        }

    def test_a_conversation_becomes_paragraphs_with_roles(self) -> None:
        spoken = request(("user", "Who?"), ("assistant", "Me."), ("user", "Why?"))
        assert replicate.body(spoken)["input"]["prompt"] == "User: Who?\n\nAssistant: Me.\n\nUser: Why?\n\nAssistant:"
        begun = request(("user", "Go on:"), ("assistant", "Once"))
        assert replicate.body(begun)["input"]["prompt"].endswith("Assistant: Once")
        assert replicate.body(ModelRequest(ModelConfig(model=MODEL), []))["input"]["prompt"] == ""

    @pytest.mark.parametrize(
        ("model", "path", "version"),
        [
            (MODEL, "/models/meta/meta-llama-3-70b-instruct/predictions", None),
            ("llama70b-v2", "/models/meta/llama-2-70b-chat/predictions", None),
            ("a/b:0f1e", "/predictions", "0f1e"),
        ],
    )
    def test_names_and_versions(self, model: str, path: str, version: str | None) -> None:
        assert replicate.url("http://x/v1", request(model=model)) == f"http://x/v1{path}"
        assert replicate.body(request(model=model)).get("version") == version

    def test_llama_2_gets_max_new_tokens(self) -> None:
        assert replicate.body(request(model="llama70b-v2", max_tokens=7))["input"]["max_new_tokens"] == 7

    @pytest.mark.parametrize("model", ["gpt-4", "a/b/c", "../..", "a/..", "a/b:", "a/b:v?x=1", "/b", ""])
    def test_invalid_model_names_are_refused(self, model: str) -> None:
        with pytest.raises(Invalid, match="owner/name"):
            call(model=model)

    def test_a_stop_sequence_with_a_comma_is_refused(self) -> None:
        with pytest.raises(Invalid, match="comma"):
            replicate.body(request(stop=["a,b"]))

    def test_a_request_that_is_not_streamed_waits_for_the_output(self) -> None:
        assert replicate.prefer_wait(call()) == {"Prefer": "wait"}
        assert replicate.prefer_wait(call(stream=True)) == {}
        assert call(stream=True).body["stream"] is True


class TestResponse:
    @pytest.mark.parametrize(("output", "text"), [(["a", " b"], "a b"), ("whole", "whole"), (None, ""), ([], "")])
    def test_output(self, output: Any, text: str) -> None:
        (choice,) = replicate.read_response(request(), {"status": "succeeded", "output": output}).choices
        assert (choice.text, choice.finish_reason) == (text, "stop")

    def test_usage_and_the_budget(self) -> None:
        reply = {"output": ["a"], "metrics": {"input_token_count": 3, "output_token_count": 5}}
        read = replicate.read_response(request(max_tokens=5), reply)
        assert read.usage == Usage(prompt_tokens=3, generation_tokens=5, total_tokens=8)
        assert read.choices[0].finish_reason == "length"
        assert replicate.read_response(request(max_tokens=6), reply).choices[0].finish_reason == "stop"
        assert replicate.read_response(request(), {"output": "a", "metrics": {"predict_time": 1}}).usage is None

    @pytest.mark.parametrize("reply", [{}, [], None, "text"])
    def test_json_of_another_form_raises(self, reply: Any) -> None:
        with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
            replicate.read_response(request(), reply)

    @pytest.mark.parametrize(
        ("payload", "detail"),
        [
            ({"title": "Unprocessable", "detail": "prompt is required", "status": 422}, "prompt is required"),
            ({"title": "Unauthenticated", "status": 401}, "Unauthenticated"),
            ({"status": "failed", "error": "CUDA out of memory", "output": None}, "CUDA out of memory"),
            ({"status": "canceled", "error": None, "output": None}, "the prediction was canceled"),
            ({"status": "succeeded", "output": ["a"], "error": None}, None),
            ({"event": "error", "data": "boom"}, "boom"),
            ({"event": "error", "data": ""}, "the prediction failed"),
            ({"event": "done", "data": '{"reason": "canceled"}'}, 'the prediction ended with {"reason": "canceled"}'),
            ({"event": "done", "data": "{}"}, None),
            ({"event": "output", "data": "an error"}, None),
            ({}, None),
            ([], None),
        ],
    )
    def test_error_messages_are_found(self, payload: Any, detail: str | None) -> None:
        told = replicate.read_error(payload)
        assert (told and told.detail) == detail


async def _pieces(raw: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


class TestSseEvents:
    @given(st.lists(st.text().filter(lambda text: "\r" not in text)), st.integers(1, 40))
    async def test_any_text_in_any_pieces_is_read(self, texts: list[str], size: int) -> None:
        raw = b""
        for number, text in enumerate(texts):
            data = "".join(f"data: {line}\n" for line in text.split("\n"))
            raw += f"event: output\nid: {number}\n{data}\n".encode()
        raw += b": a comment\n\nevent: done\ndata: {}\n\n"
        framed = [data async for data in replicate.sse_events(_pieces(raw, size))]
        assert framed.pop() == b"[DONE]"
        events = [json.loads(data) for data in framed]
        assert events.pop() == {"event": "done", "data": "{}"}
        assert [event["data"] for event in events] == texts

    async def test_lines_may_end_with_carriage_returns(self) -> None:
        raw = b"event: output\r\ndata:  a\r\n\r\n"
        assert [json.loads(data) async for data in replicate.sse_events(_pieces(raw, 5))] == [
            {"event": "output", "data": " a"}
        ]

    async def test_a_whole_prediction_instead_of_a_stream(self) -> None:
        prediction = {"id": "p", "status": "succeeded", "output": ["a", "b\n"], "metrics": {"output_token_count": 2}}
        client = Client(1.0, {ADDRESS: lambda _: StubResponse(payload=prediction)})
        (delta,) = [delta async for delta in client.stream(call(stream=True))]
        assert (delta.text, delta.finish_reason, delta.response_fields) == ("ab\n", "stop", {"id": "p"})
        assert delta.raw_usage == {"output_token_count": 2}


@given(st.lists(st.text(), min_size=1))
def test_an_accumulated_stream_reads_like_a_response(pieces: list[str]) -> None:
    accumulator = StreamAccumulator()
    for piece in pieces:
        accumulator.add(replicate.read_event(request(), {"event": "output", "data": piece}))
    metrics = {"input_token_count": 1, "output_token_count": 2, "predict_time": 0.5}
    usage = replicate.read_usage({"metrics": metrics})
    accumulator.add(ResponseDelta(finish_reason="stop", usage=usage, raw_usage=metrics))
    read = replicate.read_response(request(), replicate.write_response(request(), accumulator))
    assert (read.choices, read.usage) == ([accumulator.choice()], accumulator.usage)


def _prediction(status: str, **fields: Any) -> Json:
    return {"id": "p", "status": status, "output": None, "urls": {"get": f"{ADDRESS}/predictions/p"}} | fields


class TestFollowUp:
    async def test_a_failed_prediction_is_raised_with_its_reason(self) -> None:
        failed = _prediction("failed", error="no GPU for r8-secret")
        with pytest.raises(UpstreamFailed, match=r"Replicate could not answer: no GPU for \*\*\*"):
            await Client(1.0, {ADDRESS: lambda _: StubResponse(payload=failed)}).complete(call())

    @pytest.mark.parametrize(
        ("url", "own"),
        [
            (f"{ADDRESS}/predictions/p", True),
            ("https://api.replicate.com/v1/predictions/p", True),
            ("https://stream.replicate.com/v1/p", True),
            ("http://api.replicate.com/v1/predictions/p", False),
            ("https://evilreplicate.com/p", False),
            ("https://replicate.com.evil.example/p", False),
            ("https://replicate.com@evil.example/p", False),
            ("http://inside.test:81/p", False),
        ],
    )
    def test_the_key_is_sent_to_replicate_alone(self, url: str, own: bool) -> None:
        reply = _prediction("starting", urls={"get": url})
        if own:
            step = replicate.follow_up(call(), reply)
            assert step is not None
            assert (step.url, step.cancel_url) == (url, None)
            return
        for urls in ({"get": url}, {"get": f"{ADDRESS}/p", "cancel": url}):
            with pytest.raises(UpstreamFailed, match="address"):
                replicate.follow_up(call(), _prediction("starting", urls=urls))

    def test_a_stream_is_followed_even_when_it_is_over_already(self) -> None:
        urls = {"get": f"{ADDRESS}/p", "stream": f"{ADDRESS}/s", "cancel": f"{ADDRESS}/c"}
        step = replicate.follow_up(call(stream=True), _prediction("succeeded", urls=urls))
        assert step is not None
        assert (step.url, step.cancel_url, step.after_seconds) == (f"{ADDRESS}/s", f"{ADDRESS}/c", 0)
        assert replicate.follow_up(call(), _prediction("succeeded", urls=urls)) is None
