"""A model config as a text file that people read, edit and compare: `.prompt`.

Grammar and reasons: docs/architecture/prompt-files.md. Reading what was written gives the same version, whatever is in
it: `deserialize(serialize(config))` and `config` have equal `versions.canonical`.
"""

import re
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from services.generation.templates.promptfile import header, messages
from services.generation.templates.promptfile.header import refused
from services.generation.templates.promptfile.texts import SPACE
from shared.contracts.projects import ModelConfig
from shared.errors import Invalid

MOST_CHARACTERS = 8_000_000
"""Of a whole file; more does not fit into a message of the bus either."""

_ALWAYS = frozenset({"model", "temperature", "max_tokens", "provider", "endpoint", "whitespace"})
_ORDER = (
    "model", "temperature", "max_tokens", "top_p", "presence_penalty", "frequency_penalty", "provider", "endpoint",
    "stop", "seed", "response_format", "other", "name", "description", "prompt_template", "chat_template",
    "whitespace", "tools",
)  # fmt: skip
"""Keys of the header. The templates stand there only if the endpoint's body cannot hold them."""
_EXACT = "exact"

_OPENING = re.compile(r"\ufeff?[ \t\r\n]*---[ \t]*\r?\n")
_CLOSING = re.compile(r"^---[ \t]*(?:\r?\n|\r?\Z)", re.MULTILINE)


class _FileConfig(ModelConfig):
    """A config as strict as the API takes it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str = Field(min_length=1)
    max_tokens: int = Field(-1, ge=-1)


def serialize(config: ModelConfig) -> str:
    """The file of a config. What has its default value is left out, but for what every example shows."""
    content = config.model_dump(exclude_none=True, exclude={"type"})
    body = ""
    if config.endpoint == "chat":
        content.pop("chat_template", None)
        body = messages.write(config.chat_template or ())
        body = f"{body}\n" if body else ""
    elif (prompt := content.pop("prompt_template", None)) is not None:
        exact = not prompt or _laid_out(f"{prompt}\n") != prompt
        body = prompt if exact else f"{prompt}\n"
        content |= {"whitespace": _EXACT} if exact else {}
    values = {
        key: _number(content[key])
        for key in _ORDER
        if key in content and (key in _ALWAYS or content[key] != ModelConfig.model_fields[key].get_default())
    }
    return f"---\n{header.write(values)}---\n{body}"


def _number(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """A sampling parameter as one would write it: 1, not 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _laid_out(body: str) -> str:
    """A prompt as a person wrote it: line ends unified, trimmed. Its indentation is its own."""
    return body.replace("\r\n", "\n").strip(SPACE)


def deserialize(text: str) -> ModelConfig:
    """The config of a file. Errors: Invalid, naming the line and the remedy."""
    if len(text) > MOST_CHARACTERS:
        raise Invalid(f"The .prompt file is longer than {MOST_CHARACTERS} characters.")
    opening = _OPENING.match(text)
    if opening is None:
        raise refused(1, "the file has to begin with a line --- and a header such as model: gpt-4.")
    closing = _CLOSING.search(text, opening.end())
    if closing is None:
        raise refused(1 + text.count("\n"), "the header has no end; put a line --- after it.")
    first_line = 1 + text.count("\n", 0, opening.end())
    values, lines = header.read(text[opening.end() : closing.start()], first_line)
    values = {key: value for key, value in values.items() if value is not None}
    body_line = 1 + text.count("\n", 0, closing.end())
    _add_body(values, text[closing.end() :], lines, body_line)
    return _config(values, lines, first_line)


def _add_body(values: dict[str, Any], body: str, lines: dict[str, int], first_line: int) -> None:
    """The template that the body is."""
    exact = values.pop("whitespace", None)
    if exact not in (None, _EXACT):
        raise refused(lines["whitespace"], "the only value of whitespace is exact; leave the line out otherwise.")
    values.setdefault("endpoint", "chat" if not exact and messages.begins(body) else "complete")
    template: Any
    if values["endpoint"] == "chat":
        key, template = "chat_template", messages.read(body, first_line) or None
        if exact:
            raise refused(lines["whitespace"], "in a chat file, whitespace is an attribute of a tag.")
    else:
        key, template = "prompt_template", body if exact else _laid_out(body) or None
    if template is not None:
        if key in values:
            raise refused(lines[key], f"the body is the {key} already; leave one of them.")
        values[key] = template


def _config(values: dict[str, Any], lines: dict[str, int], first_line: int) -> ModelConfig:
    try:
        checked = _FileConfig.model_validate(values)
    except ValidationError as error:
        found = error.errors()[0]
        key, *inner = found["loc"]
        line = lines.get(str(key), first_line)
        if found["type"] == "extra_forbidden":
            raise refused(line, f"there is no key {str(key)[:80]!r}; the keys are {', '.join(_ORDER)}.") from error
        where = ".".join(map(str, (key, *inner)))
        raise refused(line, f"{where}: {found['msg']}.") from error
    return ModelConfig.model_validate(dict(checked))
