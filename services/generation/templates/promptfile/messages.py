"""Writes and reads the body of a chat file: an element for each message, its text indented inside.

Grammar and escapes: docs/architecture/prompt-files.md. The writer parses the text it has indented; one that comes back
changed is written unindented instead, under `whitespace="exact"`.
"""

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import ValidationError

from services.generation.templates.promptfile import tags
from services.generation.templates.promptfile.tags import EXACT, Tag, TagScanner
from services.generation.templates.promptfile.texts import WHITESPACE, dedent, escape, indent, quote, unescape
from shared.contracts.chat import ChatMessage, FunctionCall, Image, Role, Text

_ROLES = frozenset(get_args(Role))
_INDENTATION = "  "
_MESSAGE_ATTRIBUTES = frozenset({"name", "id", "whitespace", "content", "tool_calls"})
_CHILD_ATTRIBUTES = {
    "text": frozenset({"whitespace"}),
    "image": frozenset({"url", "detail"}),
    "tool": frozenset({"name", "id", "whitespace"}),
    "tool_call": frozenset({"name", "whitespace"}),
}
_REQUIRED_ATTRIBUTES = {"image": ("url",), "tool": ("name", "id"), "tool_call": ("name",)}


def write(messages: Sequence[ChatMessage]) -> str:
    """Return the body of a chat file, without a line end after it."""
    return "\n\n".join(map(_write_message, messages))


def _write_message(message: ChatMessage) -> str:
    content, calls = message.content, message.tool_calls or ()
    children = [_write_part(part) for part in content] if isinstance(content, list) else []
    children += [_write_call("tool", call.function, id=call.id) for call in calls]
    if message.tool_call is not None:
        children.append(_write_call("tool_call", message.tool_call))
    attributes = {
        "name": message.name,
        "id": message.tool_call_id,
        "content": "null" if content is None and not children else "[]" if content == [] else None,
        "tool_calls": "[]" if message.tool_calls == [] else None,
    }
    text = content if isinstance(content, str) else None
    return _write_element(message.role, attributes, text, children)


def _write_part(part: Text | Image) -> str:
    if isinstance(part, Text):
        return _write_element("text", {}, part.text, margin=_INDENTATION)
    image = part.image_url
    return f"{_INDENTATION}<image{_write_attributes({'url': image.url, 'detail': image.detail})} />"


def _write_call(tag: str, function: FunctionCall, **attributes: str) -> str:
    attributes = {"name": function.name} | attributes
    if function.arguments is None:
        return f"{_INDENTATION}<{tag}{_write_attributes(attributes)} />"
    return _write_element(tag, attributes, function.arguments, margin=_INDENTATION)


def _write_element(
    tag: str, attributes: dict[str, Any], text: str | None, children: Sequence[str] = (), margin: str = ""
) -> str:
    opening, closing = f"{margin}<{tag}{_write_attributes(attributes)}", f"{margin}</{tag}>"
    inside = "\n".join(children)
    if text is not None:
        indented = indent(escape(text), margin + _INDENTATION)
        if (not text and children) or unescape(dedent(f"\n{indented}\n{margin}")) != text:
            after = inside.lstrip(" ") + f"\n{closing}" if children else closing.lstrip(" ")
            return f'{opening} whitespace="{EXACT}">{escape(text)}{after}'
        inside = "\n".join(filter(None, (indented, inside)))
    return "\n".join(filter(None, (f"{opening}>", inside, closing)))


def _write_attributes(attributes: dict[str, Any]) -> str:
    return "".join(f" {name}={quote(value)}" for name, value in attributes.items() if value is not None)


def read(body: str, first_line: int) -> list[ChatMessage]:
    """Return the messages of a body that begins in line `first_line` of its file. Raises Invalid, naming the line."""
    return list(iter(_MessageParser(body, first_line).next, None))


def starts_with_message(body: str) -> bool:
    """Return whether a body begins with the tag of a role."""
    return tags.starts_with_tag(body, _ROLES)


class _MessageParser:
    """Parses a body message by message."""

    def __init__(self, body: str, first_line: int) -> None:
        self._tags = TagScanner(body, first_line)

    def next(self) -> ChatMessage | None:
        """Return the next message; None at the end. Raises Invalid."""
        before, tag = self._tags.next()
        self._tags.check_blank(
            before, "stands outside the messages; put it between <user> and </user>, or another role"
        )
        if tag is None:
            return None
        if tag.closes or tag.name not in _ROLES:
            self._tags.fail(tag.start, f"{tag} stands outside the messages; a message begins with <user>, say")
        self._tags.check_attributes(tag, _MESSAGE_ATTRIBUTES, ())
        if not tag.empty:
            self._tags.enter_message(tag)
        fields: dict[str, Any] = {
            "role": tag.name,
            "name": tag.attributes.get("name"),
            "tool_call_id": tag.attributes.get("id"),
        }
        fields |= {"content": ""} if tag.empty else self._parse_content(tag)
        for name in ("content", "tool_calls"):
            if name in tag.attributes:
                if fields.get(name):
                    self._tags.fail(tag.start, f"{tag} is not empty, as its attribute {name} says; leave one out")
                fields[name] = tag.attributes[name]
        try:
            return ChatMessage.model_validate(fields)
        except ValidationError as error:
            self._tags.fail(tag.start, f"this message cannot be: {error.errors()[0]['msg']}")

    def _parse_content(self, tag: Tag) -> dict[str, Any]:
        """Return the fields `content`, `tool_calls` and `tool_call` of a message, up to its closing tag."""
        elements: dict[str, list[dict[str, Any]]] = {"part": [], "tool": [], "tool_call": []}
        text, child = self._tags.next()
        while (child := self._check_child(tag, child)) is not None:
            kind = child.name if child.name in elements else "part"
            elements[kind].append(self._parse_element(child))
            after, child = self._tags.next()
            self._tags.check_blank(
                after,
                f"stands after another element of {tag}; put it before, or between <text> tags. If that element is "
                "meant as text, write &lt; for its <",
            )
        if len(elements["tool_call"]) > 1:
            self._tags.fail(tag.start, f"{tag} has several <tool_call>; write <tool> with an id for each")
        if elements["part"] and text.strip(WHITESPACE):
            self._tags.fail(
                tag.start,
                f"{tag} has text beside its parts; put it between <text> and </text>. If the parts are meant as text, "
                "write &lt; for their <",
            )
        content: Any = elements["part"] or tag.decode(text)
        exact = "whitespace" in tag.attributes
        if content == "" and not exact and (elements["tool"] or elements["tool_call"]):
            content = None
        calls = [
            {"id": call["id"], "function": {"name": call["name"], "arguments": call["text"]}}
            for call in elements["tool"]
        ]
        fields = {"content": content, "tool_calls": calls or None}
        for call in elements["tool_call"]:
            fields["tool_call"] = {"name": call["name"], "arguments": call["text"]}
        return fields

    def _check_child(self, parent: Tag, tag: Tag | None) -> Tag | None:
        """Return the tag if it may be inside `parent`, None if it closes `parent`. Raises Invalid for any other."""
        if tag is None or (not tag.closes and tag.name not in _CHILD_ATTRIBUTES):
            self._tags.fail_unclosed(parent, tag)
        if tag.closes:
            if tag.name != parent.name:
                self._tags.fail_unclosed(parent, tag)
            return None
        self._tags.check_attributes(tag, _CHILD_ATTRIBUTES[tag.name], _REQUIRED_ATTRIBUTES.get(tag.name, ()))
        return tag

    def _parse_element(self, tag: Tag) -> dict[str, Any]:
        """Return the fields of an element inside a message; of a call its attributes, and its arguments as `text`."""
        if tag.name == "image":
            if not tag.empty:
                self._tags.fail(tag.start, '<image> has to close itself: write <image url="..." />')
            return {"type": "image_url", "image_url": tag.attributes}
        if tag.empty:
            text = "" if tag.name == "text" else None
        else:
            raw, closing = self._tags.next()
            if closing is None or not closing.closes or closing.name != tag.name:
                self._tags.fail_unclosed(tag, closing)
            text = tag.decode(raw)
        return {"type": "text", "text": text} if tag.name == "text" else tag.attributes | {"text": text}
