"""The body of a chat file: a tag for each message, its text indented inside.

Grammar and escapes: docs/architecture/prompt-files.md. The writer reads back what it has laid out; a text that comes
back changed is written to the letter instead, under `whitespace="exact"`.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn, get_args

from pydantic import ValidationError

from services.generation.promptfile.header import refused
from services.generation.promptfile.texts import (
    SPACE,
    TAGS,
    escaped,
    indented,
    laid_out,
    quoted,
    unescaped,
    unquoted,
)
from shared.contracts.chat import ChatMessage, FunctionCall, Image, Role, Text

_ROLES = frozenset(get_args(Role))
_STEP = "  "
_EXACT = "exact"

_TAG = re.compile(rf"<(/?)({TAGS})(?=[ \t\r\n>]|/>)")
_ATTRIBUTE = re.compile(r"""[ \t\r\n]+([a-z_]+)[ \t\r\n]*=[ \t\r\n]*("[^"]*"|'[^']*')""")
_TAG_END = re.compile(r"[ \t\r\n]*(/?)>")

_MESSAGE_ATTRIBUTES = frozenset({"name", "id", "whitespace", "content", "tool_calls"})
_CHILD_ATTRIBUTES = {
    "text": frozenset({"whitespace"}),
    "image": frozenset({"url", "detail"}),
    "tool": frozenset({"name", "id", "whitespace"}),
    "tool_call": frozenset({"name", "whitespace"}),
}
_NEEDED = {"image": ("url",), "tool": ("name", "id"), "tool_call": ("name",)}
_LITERAL: dict[str, dict[str, Any]] = {
    "whitespace": {_EXACT: _EXACT},
    "content": {"null": None, "[]": []},
    "tool_calls": {"[]": []},
}
"""Attributes of a closed list of values."""


def write(messages: Sequence[ChatMessage]) -> str:
    """The body of a chat file, without a line end after it."""
    return "\n\n".join(map(_message, messages))


def _message(message: ChatMessage) -> str:
    content, calls = message.content, message.tool_calls or ()
    children = [_part(part) for part in content] if isinstance(content, list) else []
    children += [_call("tool", call.function, id=call.id) for call in calls]
    if message.tool_call is not None:
        children.append(_call("tool_call", message.tool_call))
    attributes = {
        "name": message.name,
        "id": message.tool_call_id,
        "content": "null" if content is None and not children else "[]" if content == [] else None,
        "tool_calls": "[]" if message.tool_calls == [] else None,
    }
    text = content if isinstance(content, str) else None
    return _element(message.role, attributes, text, children)


def _part(part: Text | Image) -> str:
    if isinstance(part, Text):
        return _element("text", {}, part.text, margin=_STEP)
    image = part.image_url
    return f"{_STEP}<image{_written({'url': image.url, 'detail': image.detail})} />"


def _call(tag: str, function: FunctionCall, **attributes: str) -> str:
    attributes = {"name": function.name} | attributes
    if function.arguments is None:
        return f"{_STEP}<{tag}{_written(attributes)} />"
    return _element(tag, attributes, function.arguments, margin=_STEP)


def _element(
    tag: str, attributes: dict[str, Any], text: str | None, children: Sequence[str] = (), margin: str = ""
) -> str:
    opening, closing = f"{margin}<{tag}{_written(attributes)}", f"{margin}</{tag}>"
    inside = "\n".join(children)
    if text is not None:
        shown = indented(escaped(text), margin + _STEP)
        if (not text and children) or unescaped(laid_out(f"\n{shown}\n{margin}")) != text:
            after = inside.lstrip(" ") + f"\n{closing}" if children else closing.lstrip(" ")
            return f'{opening} whitespace="{_EXACT}">{escaped(text)}{after}'
        inside = "\n".join(filter(None, (shown, inside)))
    return "\n".join(filter(None, (f"{opening}>", inside, closing)))


def _written(attributes: dict[str, Any]) -> str:
    return "".join(f" {name}={quoted(value)}" for name, value in attributes.items() if value is not None)


def read(body: str, first_line: int) -> list[ChatMessage]:
    """The messages of a body that begins in `first_line` of its file. Errors: Invalid, naming the line."""
    return list(iter(_Reader(body, first_line).message, None))


def begins(body: str) -> bool:
    """Whether a body looks like messages: it begins with the tag of a role."""
    found = _TAG.match(body.lstrip(SPACE))
    return found is not None and not found[1] and found[2] in _ROLES


class _Tag(NamedTuple):
    name: str
    closes: bool
    """`</name>`"""
    empty: bool
    """`<name />`"""
    attributes: dict[str, Any]
    start: int


class _Reader:
    """Reads from left to right; `_at` is where it has come to."""

    def __init__(self, body: str, first_line: int) -> None:
        self._body = body
        self._first_line = first_line
        self._at = 0
        self._text_at = 0
        """Where the text began that stands before the last tag."""

    def message(self) -> ChatMessage | None:
        """The next message; None at the end. Errors: Invalid."""
        before, tag = self._next()
        self._blank(before, "stands outside the messages; put it between <user> and </user>, or another role")
        if tag is None:
            return None
        if tag.closes or tag.name not in _ROLES:
            self._refuse(tag.start, f"{_shown(tag)} stands outside the messages; a message begins with <user>, say")
        self._check(tag, _MESSAGE_ATTRIBUTES, ("id",) if tag.name == "tool" else ())
        fields: dict[str, Any] = {
            "role": tag.name,
            "name": tag.attributes.get("name"),
            "tool_call_id": tag.attributes.get("id"),
        }
        fields |= {"content": ""} if tag.empty else self._inside(tag)
        for name in ("content", "tool_calls"):
            if name in tag.attributes:
                if fields.get(name):
                    self._refuse(tag.start, f"<{tag.name}> is not empty, as its attribute {name} says; leave one out")
                fields[name] = tag.attributes[name]
        try:
            return ChatMessage.model_validate(fields)
        except ValidationError as error:
            self._refuse(tag.start, f"this message cannot be: {error.errors()[0]['msg']}")

    def _inside(self, tag: _Tag) -> dict[str, Any]:
        """Content and calls, up to the closing tag."""
        found: dict[str, list[dict[str, Any]]] = {"part": [], "tool": [], "tool_call": []}
        lead, child = self._next()
        while (child := self._child(tag, child)) is not None:
            kind = child.name if child.name in found else "part"
            found[kind].append(self._fields(child))
            after, child = self._next()
            self._blank(after, f"stands after another element of <{tag.name}>; put it before, or between <text> tags")
        if len(found["tool_call"]) > 1:
            self._refuse(tag.start, f"<{tag.name}> has several <tool_call>; write <tool> with an id for each")
        if found["part"] and lead.strip(SPACE):
            self._refuse(tag.start, f"<{tag.name}> has text beside its parts; put it between <text> and </text>")
        content: Any = found["part"] or self._text(tag, lead)
        exact = "whitespace" in tag.attributes
        if content == "" and not exact and (found["tool"] or found["tool_call"]):
            content = None
        calls = [
            {"id": fields["id"], "function": {"name": fields["name"], "arguments": fields["text"]}}
            for fields in found["tool"]
        ]
        fields = {"content": content, "tool_calls": calls or None}
        for call in found["tool_call"]:
            fields["tool_call"] = {"name": call["name"], "arguments": call["text"]}
        return fields

    def _child(self, parent: _Tag, tag: _Tag | None) -> _Tag | None:
        """The tag, if it is one inside `parent`; None if it closes it. Errors: Invalid."""
        if tag is None or (not tag.closes and tag.name not in _CHILD_ATTRIBUTES):
            self._unclosed(parent, tag)
        if tag.closes:
            if tag.name != parent.name:
                self._unclosed(parent, tag)
            return None
        self._check(tag, _CHILD_ATTRIBUTES[tag.name], _NEEDED.get(tag.name, ()))
        return tag

    def _fields(self, tag: _Tag) -> dict[str, Any]:
        """What an element inside a message says."""
        if tag.name == "image":
            if not tag.empty:
                self._refuse(tag.start, '<image> has to close itself: write <image url="..." />')
            return {"type": "image_url", "image_url": tag.attributes}
        if tag.empty:
            text = "" if tag.name == "text" else None
        else:
            inside, closing = self._next()
            if closing is None or not closing.closes or closing.name != tag.name:
                self._unclosed(tag, closing)
            text = self._text(tag, inside)
        return {"type": "text", "text": text} if tag.name == "text" else tag.attributes | {"text": text}

    @staticmethod
    def _text(tag: _Tag, raw: str) -> str:
        return unescaped(raw if "whitespace" in tag.attributes else laid_out(raw))

    def _next(self) -> tuple[str, _Tag | None]:
        """What stands before the next tag, and the tag."""
        start = self._text_at = self._at
        found = _TAG.search(self._body, start)
        if found is None:
            self._at = len(self._body)
            return self._body[start:], None
        attributes: dict[str, Any] = {}
        self._at = found.end()
        while (attribute := _ATTRIBUTE.match(self._body, self._at)) and not found[1]:
            self._at = attribute.end()
            name, value = attribute[1], unquoted(attribute[2])
            if name in attributes or value not in (allowed := _LITERAL.get(name, {value: value})):
                self._refuse(found.start(), f"the attribute {name} of <{found[2]}> is wrong, or stands there twice")
            attributes[name] = allowed[value]
        end = _TAG_END.match(self._body, self._at)
        if end is None or (found[1] and end[1]):
            self._refuse(
                found.start(),
                f'the tag {found[0]} cannot be read; write attributes as name="value" and close it with >. '
                f"If it is meant as text, write &lt;{found[0][1:]}",
            )
        self._at = end.end()
        return self._body[start : found.start()], _Tag(
            found[2], bool(found[1]), bool(end[1]), attributes, found.start()
        )

    def _check(self, tag: _Tag, allowed: frozenset[str], needed: Sequence[str]) -> None:
        for name in tag.attributes:
            if name not in allowed:
                self._refuse(tag.start, f"<{tag.name}> has no attribute {name}; it takes {', '.join(sorted(allowed))}")
        for name in needed:
            if name not in tag.attributes:
                self._refuse(tag.start, f'<{tag.name}> needs {name}="..."')

    def _blank(self, text: str, otherwise: str) -> None:
        """Nothing but white space may stand before the last tag."""
        if stripped := text.lstrip(SPACE):
            self._refuse(self._text_at + len(text) - len(stripped), f"text {otherwise}")

    def _unclosed(self, tag: _Tag, met: _Tag | None) -> NoReturn:
        where = "before the end" if met is None else f"before {_shown(met)} in line {self._line(met.start)}"
        escape = "" if met is None else f". If that is meant as text, write &lt;{_shown(met)[1:]}"
        self._refuse(tag.start, f"<{tag.name}> is not closed {where}; write </{tag.name}>{escape}")

    def _line(self, position: int) -> int:
        return self._first_line + self._body.count("\n", 0, position)

    def _refuse(self, position: int, message: str) -> NoReturn:
        raise refused(self._line(position), f"{message}.")


def _shown(tag: _Tag) -> str:
    return f"</{tag.name}>" if tag.closes else f"<{tag.name}>"
