"""Serializes model configs to `.prompt` files, text that people read, edit and compare, and deserializes them.

Grammar and reasons: docs/architecture/prompt-files.md. A file gives back the version it was written from, whatever is
in it: `deserialize(serialize(config))` and `config` have equal `versions.canonical_json`.
"""

import re
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from services.generation.templates.promptfile import header, messages
from services.generation.templates.promptfile.header import line_error
from services.generation.templates.promptfile.texts import WHITESPACE
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

MAX_CHARACTERS = 8_000_000
"""Of a file; more does not fit into a message of the bus either."""

_ALWAYS_WRITTEN = frozenset({"model", "temperature", "max_tokens", "provider", "endpoint", "whitespace"})
_KEYS = (
    "model", "temperature", "max_tokens", "top_p", "presence_penalty", "frequency_penalty", "provider", "endpoint",
    "stop", "seed", "response_format", "other", "name", "description", "prompt_template", "chat_template",
    "whitespace", "tools",
)  # fmt: skip
"""Keys of the header, in the order they are written. Templates are in the header only if the body cannot hold them."""
_EXACT = "exact"

_OPENING = re.compile(r"\ufeff?[ \t\r\n]*---[ \t]*\r?\n")
_CLOSING = re.compile(r"^---[ \t]*(?:\r?\n|\r?\Z)", re.MULTILINE)


class _StrictConfig(ModelConfig):
    """A model config validated as strictly as a body of the API."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str = Field(min_length=1)
    max_tokens: int = Field(-1, ge=-1)


def serialize(config: ModelConfig) -> str:
    """Return the `.prompt` file of a config. Fields with their default value are left out, except `_ALWAYS_WRITTEN`."""
    content = config.model_dump(exclude_none=True, exclude={"type"})
    body = ""
    if config.endpoint == "chat":
        content.pop("chat_template", None)
        body = messages.write(config.chat_template or ())
        body = f"{body}\n" if body else ""
    elif (prompt := content.pop("prompt_template", None)) is not None:
        exact = not prompt or _trimmed(f"{prompt}\n") != prompt
        body = prompt if exact else f"{prompt}\n"
        content |= {"whitespace": _EXACT} if exact else {}
    values = {
        key: _shortest_number(content[key])
        for key in _KEYS
        if key in content and (key in _ALWAYS_WRITTEN or content[key] != ModelConfig.model_fields[key].get_default())
    }
    return f"---\n{header.write(values)}---\n{body}"


def _shortest_number(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a whole float as an integer (1, not 1.0); any other value itself."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _trimmed(body: str) -> str:
    """Return a prompt with unified line ends and without white space around it; its indentation stays."""
    return body.replace("\r\n", "\n").strip(WHITESPACE)


def deserialize(text: str) -> ModelConfig:
    """Return the config of a `.prompt` file. Raises Invalid, naming the line and the remedy."""
    if len(text) > MAX_CHARACTERS:
        raise Invalid(f"The .prompt file is longer than {MAX_CHARACTERS} characters.")
    opening = _OPENING.match(text)
    if opening is None:
        raise line_error(1, "the file has to begin with a line --- and a header such as model: gpt-4.")
    closing = _CLOSING.search(text, opening.end())
    if closing is None:
        raise line_error(1 + text.count("\n"), "the header has no end; put a line --- after it.")
    first_line = 1 + text.count("\n", 0, opening.end())
    values, lines = header.read(text[opening.end() : closing.start()], first_line)
    values = {key: value for key, value in values.items() if value is not None}
    body_line = 1 + text.count("\n", 0, closing.end())
    _add_body(values, text[closing.end() :], lines, body_line)
    return _validate(values, lines, first_line)


def _add_body(values: dict[str, Any], body: str, lines: dict[str, int], first_line: int) -> None:
    """Parse the body into `chat_template` or `prompt_template` of `values`. Raises Invalid."""
    exact = values.pop("whitespace", None)
    if exact not in (None, _EXACT):
        raise line_error(lines["whitespace"], "the only value of whitespace is exact; leave the line out otherwise.")
    values.setdefault("endpoint", "chat" if not exact and messages.starts_with_message(body) else "complete")
    template: Any
    if values["endpoint"] == "chat":
        key, template = "chat_template", messages.read(body, first_line) or None
        if exact:
            raise line_error(lines["whitespace"], "in a chat file, whitespace is an attribute of a tag.")
    else:
        key, template = "prompt_template", body if exact else _trimmed(body) or None
    if template is not None:
        if key in values:
            raise line_error(lines[key], f"the body is the {key} already; leave one of them.")
        values[key] = template


def _validate(values: dict[str, Any], lines: dict[str, int], first_line: int) -> ModelConfig:
    try:
        config = _StrictConfig.model_validate(values)
    except ValidationError as error:
        details = error.errors()[0]
        key, *path = details["loc"]
        line = lines.get(str(key), first_line)
        if details["type"] == "extra_forbidden":
            raise line_error(line, f"there is no key {str(key)[:80]!r}; the keys are {', '.join(_KEYS)}.") from error
        field = ".".join(map(str, (key, *path)))
        raise line_error(line, f"{field}: {details['msg']}.") from error
    return ModelConfig.model_validate(dict(config))
