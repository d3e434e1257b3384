"""Reads single fields of replies, whatever JSON stands there: a field that is not as its provider documents it is read
as what it may mean, and never ends an answer that was paid for."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from services.generation.models.request import Json
from services.generation.providers.base import ReportedError
from shared.contracts.chat import FinishReason

_HIDDEN_PARTS = frozenset({"thinking", "redacted_thinking", "thought", "reasoning", "reasoning_text", "summary_text"})
"""Types of parts whose text is no answer."""
_CODES = ("code", "type", "status", "status_code")
"""Fields that tell the kind of an error."""
_MESSAGES = ("message", "Message")


def as_object(value: Any) -> Json:  # noqa: ANN401
    """Return an object as it is, also the one of a list of one; anything else as an empty one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else {}


def as_objects(value: Any) -> list[Json]:  # noqa: ANN401
    """Return the objects of a list; one that stands alone is a list of one."""
    if isinstance(value, dict):
        return [value]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def first_set(fields: Json, *names: str) -> Any:  # noqa: ANN401
    """Return the first of several fields that is not null; None if there is none."""
    return next((value for name in names if (value := fields.get(name)) is not None), None)


def as_text(value: Any) -> str:  # noqa: ANN401
    """Return the text of an answer: of its parts if it comes in parts; JSON text of what is neither; empty for null."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_part_text(part) for part in value)
    if isinstance(value, dict) and (isinstance(value.get("text"), str | list) or _is_hidden(value)):
        return _part_text(value)  # any other object is an answer in JSON that the server parsed
    return as_json_text(value) or ""


def as_block_text(value: Any) -> str:  # noqa: ANN401
    """Return the text of content blocks, or of one; of what is no block as `as_text` does."""
    return as_text([value] if isinstance(value, dict) else value)


def _part_text(part: Any) -> str:  # noqa: ANN401
    """Return the text of one part; parts of other types, like thoughts and images, are in the raw reply alone."""
    if not isinstance(part, dict):
        return as_text(part)
    if _is_hidden(part):
        return ""
    text = part.get("text", part.get("content") if part.get("type") == "text" else None)
    return as_text(text.get("value", text) if isinstance(text, dict) else text)


def _is_hidden(part: Json) -> bool:
    kind = part.get("type")
    return isinstance(kind, str) and kind in _HIDDEN_PARTS


def as_json_text(value: Any) -> str | None:  # noqa: ANN401
    """Return text as it is, None for null, and anything else as JSON text: arguments of a tool call. Infinite numbers,
    for which JSON has no word, are null in it, as in JavaScript's."""
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_without_infinity(value), ensure_ascii=False)


def _without_infinity(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _without_infinity(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_infinity(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_name(value: Any) -> str | None:  # noqa: ANN401
    """Return an id or a name; None if it is missing, empty or no scalar."""
    if isinstance(value, str):
        return value or None
    return None if isinstance(value, dict | list) else as_json_text(value)


def as_index(value: Any, default: int) -> int:  # noqa: ANN401
    """Return a position, also one written as text or as a float."""
    try:
        return int(value) if isinstance(value, str | int | float) else default
    except (ValueError, OverflowError):
        return default


def as_finish_reason(value: Any, reasons: Mapping[str, FinishReason]) -> FinishReason | None:  # noqa: ANN401
    """Return v4's reason for a provider's, in upper or lower case; None if the answer goes on, which some servers call
    "null". A reason that is not in the table is `stop`."""
    if not value or value == "null":
        return None
    if not isinstance(value, str):
        return "stop"
    return reasons.get(value) or reasons.get(value.lower()) or reasons.get(value.upper(), "stop")


def as_status(codes: Iterable[Any], statuses: Mapping[str, int]) -> int | None:
    """Return the HTTP status for the first of an error's codes that says one: in the table, or a status itself."""
    for code in codes:
        name = as_name(code)
        if name is None:
            continue
        if (status := statuses.get(name.lower())) is not None:
            return status
        if name.isascii() and name.isdigit() and len(name) == 3 and name >= "400":
            return int(name)
    return None


def as_error(value: Any, statuses: Mapping[str, int], about: Json | None = None) -> ReportedError | None:  # noqa: ANN401
    """Return the error that an `error` field tells: an object, a text or a code; None if nothing is set in it.

    `about` is what the field stands in: some servers have the code there.
    """
    fields = value if isinstance(value, dict) else {"message": value, "type": value}
    if not any(fields.values()):
        return None
    codes = (each.get(name) for each in (fields, about or {}) for name in _CODES)
    message = fields.get("message") or fields.get("type") or value
    return ReportedError(as_json_text(message) or "", as_status(codes, statuses))


def as_told_error(payload: Any, statuses: Mapping[str, int], *, is_answer: bool = False) -> ReportedError | None:  # noqa: ANN401
    """Return the error in a reply or an event, or in a list of one: in `error`; if it `is_answer` nowhere else,
    otherwise also in `detail` or `errors`, in `message` or `Message`, or in what calls itself one (vendors of OpenAI's
    language: `"object": "error"`): gateways and proxies have forms of their own."""
    fields = as_object(payload)
    told = as_error(fields.get("error"), statuses, fields)
    if told or is_answer:
        return told
    message = next((text for name in _MESSAGES if isinstance(text := fields.get(name), str) and text), None)
    if message is not None:
        return as_error(fields | {"message": message}, statuses)
    if "error" in (fields.get("type"), fields.get("object")):
        return as_error(fields, statuses)
    return as_error(first_set(fields, "detail", "errors"), statuses, fields)


def without_none(**fields: Any) -> Json:  # noqa: ANN401
    """Return the fields that are set."""
    return {key: value for key, value in fields.items() if value is not None}
