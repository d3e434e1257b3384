"""Fields of a log's document that are derived from its others, because queries could not use those.

| field | what |
|---|---|
| `search_text` | the values in inputs and messages, without the names and the punctuation of JSON |
| `metadata_text` | the values in metadata |
| `feedback_keys` | a hash of each value of the latest feedback of each type, for filters |
| `feedback_order` | the value of the latest feedback by a hash of its type, for sorting |
| `blobs` | digests of the blobs whose tokens are anywhere in the document (shared/blobs.py) |
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from pydantic_core import to_json

from shared.blobs import TOKEN, digests_in
from shared.contracts.chat import ChatMessage, Text
from shared.contracts.logs import Feedback, FeedbackFilter, LogRecord
from shared.mongo import Document

SEPARATOR = "\x1f"
"""Between two values (the control character "unit separator"), so that a search finds nothing that spans both."""
MAX_SEARCH_BYTES = 2_000_000
"""With a log of 8 MB and a later output of 4 MB a document stays below MongoDB's 16 MiB. What is behind is
not found by a search."""
MAX_METADATA_BYTES = 250_000
_MAX_ORDER_TEXT = 200
"""Characters of a text by which logs are sorted."""
_DATA_SCHEMES = ("data:", "DATA:")
_DATA_URL_HEAD = 256
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def text_fields(log: LogRecord) -> Document:
    """Return `search_text` and `metadata_text` of a log; a log without inputs and messages, or metadata, has none."""
    texts: list[str] = []
    _collect(log.inputs, texts)
    for message in log.messages or ():
        texts += _texts_of(message)
    fields = {"search_text": _join(texts, MAX_SEARCH_BYTES)} if log.inputs or texts else {}
    if log.metadata:
        metadata: list[str] = []
        _collect(log.metadata, metadata)
        fields["metadata_text"] = _join(metadata, MAX_METADATA_BYTES)
    return fields


def searched_text(term: str) -> str:
    """Return what stands in the derived texts for `term`: another control character in place of the separator."""
    return term.replace(SEPARATOR, "\x1e")


def _join(texts: list[str], max_bytes: int) -> str:
    text = SEPARATOR.join(map(searched_text, texts))
    if 4 * len(text) <= max_bytes:  # a character takes at most four bytes
        return text
    return text.encode(errors="ignore")[:max_bytes].decode(errors="ignore")


def _texts_of(message: ChatMessage) -> list[str]:
    if isinstance(message.content, list):
        return [part.text for part in message.content if isinstance(part, Text)]
    return [message.content] if message.content else []


def _collect(value: Any, texts: list[str]) -> None:  # noqa: ANN401 - any JSON
    """Append the values in a JSON value; null, and the data of data URLs, are none."""
    kind = type(value)
    if kind is str:
        if not (value.startswith(_DATA_SCHEMES) and ";base64," in value[:_DATA_URL_HEAD].lower()):
            texts.append(value)
    elif kind is dict:
        for item in value.values():
            _collect(item, texts)
    elif kind is list:
        for item in value:
            _collect(item, texts)
    elif value is not None:
        texts.append(to_json(value, inf_nan_mode="constants").decode())


def feedback_fields(effective: Iterable[Feedback]) -> Document:
    """Return `feedback_keys` and `feedback_order` of the feedback in effect on a log, older first; of a type the last
    one is the latest. Empty without feedback.
    """
    latest = {feedback.type: feedback.value for feedback in effective}
    if not latest:
        return {}
    keys: dict[str, None] = {}
    order: Document = {}
    for feedback_type, value in latest.items():
        values = value if isinstance(value, list) else [value]
        keys |= dict.fromkeys(_key(feedback_type, _filter_text(one)) for one in values)
        if values:
            order[type_key(feedback_type)] = _order_value(values[0])
    return {"feedback_keys": list(keys), "feedback_order": order}


def filter_keys(feedback: FeedbackFilter) -> list[str]:
    """Return the `feedback_keys` of which a matching log has one. `4`, `4.0` and `4e0` are the same number."""
    texts = dict.fromkeys(feedback.values)
    texts |= {_filter_text(float(text)): None for text in feedback.values if _NUMBER.fullmatch(text)}
    return [_key(feedback.type, text) for text in texts]


def type_key(feedback_type: str) -> str:
    """Return a hash of a feedback type as a field name: types may have any characters."""
    return _hash(feedback_type)


def _key(feedback_type: str, text: str) -> str:
    return _hash(feedback_type, text)


def _hash(*parts: str) -> str:
    return hashlib.sha256(to_json(parts)).hexdigest()[:32]


def _filter_text(value: bool | float | str) -> str:
    """Return a value of feedback as text; equal numbers have equal texts."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    number = _float(value)
    return str(int(number)) if number.is_integer() else repr(number)


def _order_value(value: bool | float | str) -> str | float:
    if isinstance(value, bool | str):
        return _filter_text(value)[:_MAX_ORDER_TEXT]
    return _float(value)


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer of more than 308 digits
        return float("inf") if number > 0 else float("-inf")


def blob_fields(document: Document) -> Document:
    """Return `blobs` of a document by the texts in it; empty if it names none."""
    texts = [value for value in document.values() if type(value) is str and TOKEN in value]
    digests = sorted({digest for text in texts for digest in digests_in(text)}) if texts else None
    return {"blobs": digests} if digests else {}
