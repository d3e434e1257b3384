"""Reads responses and events through a dialect: finds errors in them, and keeps with every problem what could be read.

An error told before any of the answer is the problem of its status; after that the answer broke off.
"""

import json
import logging
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pydantic_core import from_json, to_json

from services.generation.models.request import Choice, Json, ModelResponse, ResponseDelta, ToolCallPart
from services.generation.providers import errors
from services.generation.providers.base import PreparedRequest, ReportedError
from services.generation.providers.transport.bounded_json import read_json_with_surrogates
from services.generation.providers.transport.surrogates import SurrogateJoiner, join_in_choice, without_surrogates
from shared.contracts.chat import Usage
from shared.errors import Problem

logger = logging.getLogger(__name__)

PARSE_ERRORS = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What reading something else than the provider's language raises."""
_USAGE_FIELDS = ("usage", "usageMetadata", "usage_metadata", "metrics")
"""Where responses have their usage."""
_MAX_UNREADABLE_CHARACTERS = 64 * 1024
"""Of a body that is no JSON, kept in the log."""


def read_response(prepared: PreparedRequest, content: bytes) -> ModelResponse:
    """Return the answer in a whole body. Raises UpstreamFailed, with the body and its usage, if there is none in it,
    and the problem of an error that it tells instead."""
    try:
        reply, has_surrogates = read_json_with_surrogates(content)
    except ValueError as error:
        raise errors.invalid_response(
            prepared.title, "sent an answer that cannot be read.", unreadable(prepared, content)
        ) from error
    raw = without_surrogates(reply) if has_surrogates else reply
    if (told := prepared.dialect.read_error(raw)) is not None:
        raise _told_error(prepared, told, _answer_beside_error(prepared, raw))
    try:
        response = prepared.dialect.read_response(prepared.request, reply)
    except Problem as problem:
        errors.attach_response(problem, without_answer(prepared, raw))
        raise
    except PARSE_ERRORS as error:
        raise errors.invalid_response(
            prepared.title, "sent an answer that cannot be read.", without_answer(prepared, raw)
        ) from error
    choices = [join_in_choice(choice) for choice in response.choices] if has_surrogates else response.choices
    return replace(response, choices=choices, raw=_as_raw(raw))


def unreadable(prepared: PreparedRequest, content: bytes) -> ModelResponse:
    """Return a body that is not JSON as a response without an answer."""
    text = content[: 4 * _MAX_UNREADABLE_CHARACTERS].decode(errors="replace")[:_MAX_UNREADABLE_CHARACTERS]
    return ModelResponse([], {"body": errors.mask_key(text, prepared.key)})


def without_answer(prepared: PreparedRequest, reply: Any) -> ModelResponse:  # noqa: ANN401
    """Return what can be kept of a reply whose answer cannot be read: itself, and its usage."""
    return ModelResponse([], _masked(prepared, reply), _read_usage(prepared, reply))


def _answer_beside_error(prepared: PreparedRequest, reply: Any) -> ModelResponse:  # noqa: ANN401
    """Return the samples that came with an error, without finish reasons: none of them ended."""
    with suppress(Problem, *PARSE_ERRORS):
        read = prepared.dialect.read_response(prepared.request, reply)
        choices = [replace(choice, finish_reason=None) for choice in read.choices]
        return ModelResponse(choices, _masked(prepared, reply), read.usage)
    return without_answer(prepared, reply)


def _told_error(prepared: PreparedRequest, error: ReportedError, reply: ModelResponse) -> Problem:
    """Return the problem for an error in place of an answer; beside one, or beside its usage, the answer broke off."""
    detail = errors.mask_key(error.detail, prepared.key)
    if _has_content(reply.choices) or (reply.usage and reply.usage.total_tokens):
        return errors.invalid_response(prepared.title, f"could not answer: {detail}", reply)
    return errors.reported_error(prepared.title, error.status, detail, replace(reply, choices=[]))


def _has_content(choices: list[Choice]) -> bool:
    return any(choice.text or choice.tool_calls for choice in choices)


def _read_usage(prepared: PreparedRequest, reply: Any) -> Usage | None:  # noqa: ANN401
    with suppress(*PARSE_ERRORS):
        return prepared.dialect.read_usage(reply)
    return None


def _masked(prepared: PreparedRequest, reply: Any) -> Json:  # noqa: ANN401
    """Return a reply that goes into the log of a failed call, without the key, which some servers repeat in errors."""
    text = to_json(reply, inf_nan_mode="constants").decode()
    masked = errors.mask_key(text, prepared.key)
    return _as_raw(reply if masked == text else from_json(masked))


def _as_raw(reply: Any) -> Json:  # noqa: ANN401
    """Return a reply in the form that logs have: an object."""
    return reply if isinstance(reply, dict) else {"body": reply}


def as_delta(response: ModelResponse) -> ResponseDelta:
    """Return the first sample of a whole response as one event: some servers do not stream."""
    choice, raw = response.choices[0], response.raw
    parts = (
        ToolCallPart(None, call.id, call.function.name, call.function.arguments or "")
        for call in choice.tool_calls or ()
    )
    usages = (raw[name] for name in _USAGE_FIELDS if isinstance(raw.get(name), dict))
    return ResponseDelta(
        text=choice.text,
        tool_calls=tuple(parts),
        finish_reason=choice.finish_reason,
        refusal=choice.refusal,
        usage=response.usage,
        raw_usage=next(usages, None),
        response_fields={name: raw[name] for name in ("id", "model", "version") if isinstance(raw.get(name), str)},
    )


def listed_events(content: bytes) -> list[bytes]:
    """Return the events of a stream that comes as a JSON array of them (Google without `alt=sse`); none if it does
    not."""
    with suppress(ValueError):
        read, _ = read_json_with_surrogates(content)
        if isinstance(read, list) and len(read) > 1:
            return [json.dumps(event).encode() for event in read]
    return []


class EventReader:
    """Reads the events of one streamed response."""

    def __init__(self, prepared: PreparedRequest) -> None:
        self._prepared = prepared
        self._joiner = SurrogateJoiner()
        self._has_content = False
        self._notice: bytes | None = None
        self.finished = False
        """Whether the answer has come to its end."""

    def read(self, data: bytes) -> ResponseDelta:
        """Return what an event adds to the answer. Raises UpstreamFailed if it is not JSON, and the problem of an error
        that it tells; both with the event. After the end of the answer neither costs the caller the answer."""
        try:
            return self._read(data)
        except Problem as problem:
            if not (self.finished and self._has_content):
                raise
            logger.info("%s: %s after the end of its answer", self._prepared.title, problem.code)
            return ResponseDelta()

    def _read(self, data: bytes) -> ResponseDelta:
        prepared = self._prepared
        event: Any = None
        try:
            event, has_surrogates = read_json_with_surrogates(data)
            whole = without_surrogates(event) if has_surrogates else event
            if (told := prepared.dialect.read_error(whole)) is not None:
                raise self._told_error(told, whole)
            delta = prepared.dialect.read_event(prepared.request, event)
            if not (delta.has_content or self._has_content):
                delta = self._whole_answer(event) or delta
            return self.take(self._joiner.join(delta, has_surrogates=has_surrogates))
        except Problem as problem:
            reply = without_answer(prepared, without_surrogates(event))
            if self._has_content and not errors.may_have_cost(problem):
                raise self._failed(problem.message, reply) from problem
            errors.attach_response(problem, reply)
            raise
        except PARSE_ERRORS as error:
            if event is None and not data.startswith(b"{"):  # a heartbeat: "ping", "[PING]"
                self._notice = self._notice or data
                return ResponseDelta()
            raise errors.invalid_response(
                prepared.title, "sent an event that cannot be read.", unreadable(prepared, data)
            ) from error

    def _whole_answer(self, event: Any) -> ResponseDelta | None:  # noqa: ANN401
        """Return the answer in an event that is one by itself: some servers put a whole response into one."""
        with suppress(Problem, *PARSE_ERRORS):
            delta = as_delta(self._prepared.dialect.read_response(self._prepared.request, event))
            return delta if delta.has_content else None
        return None

    def raise_if_unfinished(self) -> None:
        """Raise UpstreamFailed if the stream ended before the answer; with what it sent that is no event, if it did."""
        if self.finished:
            return
        if self._notice is None:
            raise errors.invalid_response(self._prepared.title, "broke off in the middle of its answer.")
        raise errors.invalid_response(
            self._prepared.title, "sent an event that cannot be read.", unreadable(self._prepared, self._notice)
        )

    def end(self) -> ResponseDelta | None:
        """Return what is left when the stream ends: half of a character."""
        return self._joiner.rest()

    def take(self, delta: ResponseDelta) -> ResponseDelta:
        """Note how far the answer is, and return the event. Raises Invalid if all of the answer is withheld."""
        self._has_content = self._has_content or delta.has_content
        if delta.withheld and not self._has_content:
            raise errors.response_withheld(self._prepared.title, delta.withheld)
        if delta.is_last and not self.finished and delta.finish_reason is None:
            delta = replace(delta, finish_reason="stop")
        self.finished = self.finished or delta.finish_reason is not None
        return delta

    def _told_error(self, error: ReportedError, event: Any) -> Problem:  # noqa: ANN401
        reply = without_answer(self._prepared, event)
        if not self._has_content:
            return _told_error(self._prepared, error, reply)
        return self._failed(errors.mask_key(error.detail, self._prepared.key), reply)

    def _failed(self, detail: str, reply: ModelResponse) -> Problem:
        return errors.invalid_response(self._prepared.title, f"failed in the middle of its answer: {detail}", reply)
