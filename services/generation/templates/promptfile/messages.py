"""The body of a chat file: a tag for each message, its text indented inside.

Grammar and escapes: docs/architecture/prompt-files.md. The writer reads back what it has laid out; a text that comes
back changed is written to the letter instead, under `whitespace="exact"`.
"""

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import ValidationError

from services.generation.templates.promptfile import tags
from services.generation.templates.promptfile.tags import EXACT, Tag, Tags
from services.generation.templates.promptfile.texts import SPACE, escaped, indented, laid_out, quoted, unescaped
from shared.contracts.chat import ChatMessage, FunctionCall, Image, Role, Text

_ROLES = frozenset(get_args(Role))
_STEP = "  "
_MESSAGE_ATTRIBUTES = frozenset({"name", "id", "whitespace", "content", "tool_calls"})
_CHILD_ATTRIBUTES = {
    "text": frozenset({"whitespace"}),
    "image": frozenset({"url", "detail"}),
    "tool": frozenset({"name", "id", "whitespace"}),
    "tool_call": frozenset({"name", "whitespace"}),
}
_NEEDED = {"image": ("url",), "tool": ("name", "id"), "tool_call": ("name",)}


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
            return f'{opening} whitespace="{EXACT}">{escaped(text)}{after}'
        inside = "\n".join(filter(None, (shown, inside)))
    return "\n".join(filter(None, (f"{opening}>", inside, closing)))


def _written(attributes: dict[str, Any]) -> str:
    return "".join(f" {name}={quoted(value)}" for name, value in attributes.items() if value is not None)


def read(body: str, first_line: int) -> list[ChatMessage]:
    """The messages of a body that begins in `first_line` of its file. Errors: Invalid, naming the line."""
    return list(iter(_Reader(body, first_line).message, None))


def begins(body: str) -> bool:
    """Whether a body looks like messages: it begins with the tag of a role."""
    return tags.begins(body, _ROLES)


class _Reader:
    """What the tags say, message by message."""

    def __init__(self, body: str, first_line: int) -> None:
        self._tags = Tags(body, first_line)

    def message(self) -> ChatMessage | None:
        """The next message; None at the end. Errors: Invalid."""
        before, tag = self._tags.next()
        self._tags.check_blank(
            before, "stands outside the messages; put it between <user> and </user>, or another role"
        )
        if tag is None:
            return None
        if tag.closes or tag.name not in _ROLES:
            self._tags.refuse(tag.start, f"{tag} stands outside the messages; a message begins with <user>, say")
        self._tags.check(tag, _MESSAGE_ATTRIBUTES, ("id",) if tag.name == "tool" else ())
        fields: dict[str, Any] = {
            "role": tag.name,
            "name": tag.attributes.get("name"),
            "tool_call_id": tag.attributes.get("id"),
        }
        fields |= {"content": ""} if tag.empty else self._inside(tag)
        for name in ("content", "tool_calls"):
            if name in tag.attributes:
                if fields.get(name):
                    self._tags.refuse(tag.start, f"{tag} is not empty, as its attribute {name} says; leave one out")
                fields[name] = tag.attributes[name]
        try:
            return ChatMessage.model_validate(fields)
        except ValidationError as error:
            self._tags.refuse(tag.start, f"this message cannot be: {error.errors()[0]['msg']}")

    def _inside(self, tag: Tag) -> dict[str, Any]:
        """Content and calls, up to the closing tag."""
        found: dict[str, list[dict[str, Any]]] = {"part": [], "tool": [], "tool_call": []}
        lead, child = self._tags.next()
        while (child := self._child(tag, child)) is not None:
            kind = child.name if child.name in found else "part"
            found[kind].append(self._fields(child))
            after, child = self._tags.next()
            self._tags.check_blank(
                after, f"stands after another element of {tag}; put it before, or between <text> tags"
            )
        if len(found["tool_call"]) > 1:
            self._tags.refuse(tag.start, f"{tag} has several <tool_call>; write <tool> with an id for each")
        if found["part"] and lead.strip(SPACE):
            self._tags.refuse(tag.start, f"{tag} has text beside its parts; put it between <text> and </text>")
        content: Any = found["part"] or tag.text(lead)
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

    def _child(self, parent: Tag, tag: Tag | None) -> Tag | None:
        """The tag, if it is one inside `parent`; None if it closes it. Errors: Invalid."""
        if tag is None or (not tag.closes and tag.name not in _CHILD_ATTRIBUTES):
            self._tags.refuse_unclosed(parent, tag)
        if tag.closes:
            if tag.name != parent.name:
                self._tags.refuse_unclosed(parent, tag)
            return None
        self._tags.check(tag, _CHILD_ATTRIBUTES[tag.name], _NEEDED.get(tag.name, ()))
        return tag

    def _fields(self, tag: Tag) -> dict[str, Any]:
        """What an element inside a message says."""
        if tag.name == "image":
            if not tag.empty:
                self._tags.refuse(tag.start, '<image> has to close itself: write <image url="..." />')
            return {"type": "image_url", "image_url": tag.attributes}
        if tag.empty:
            text = "" if tag.name == "text" else None
        else:
            inside, closing = self._tags.next()
            if closing is None or not closing.closes or closing.name != tag.name:
                self._tags.refuse_unclosed(tag, closing)
            text = tag.text(inside)
        return {"type": "text", "text": text} if tag.name == "text" else tag.attributes | {"text": text}
