"""Names of tools and ids of their calls: what a provider refuses is replaced in its request, and the caller sees its
own names again; ids that do not tell calls apart are made unique."""

import hashlib
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from services.generation.models.request import SIGNATURE_MARK, Choice, ModelRequest
from shared.contracts.chat import ChatMessage, ConfigTool, FunctionChoice, FunctionName, ToolCall


@dataclass(frozen=True)
class IdentifierRules:
    """What a provider takes."""

    name: re.Pattern[str] | None = None
    """Names of tools. None: any."""
    name_length: int = 64
    """The longest name."""
    call_id: re.Pattern[str] | None = None
    """Ids of calls. None: any."""
    call_id_length: int = 24
    """Of ids that replace refused ones."""


ANY_IDENTIFIERS = IdentifierRules()
"""Takes every name and id."""
_OTHER_CHARACTERS = re.compile(r"[^a-zA-Z0-9_-]")
_HASH_CHARACTERS = 8


def fit(request: ModelRequest, rules: IdentifierRules) -> tuple[ModelRequest, dict[str, str]]:
    """Return the request with names and ids that the provider takes, and the caller's names by those that replace them.

    A replaced name or id is the same in every request, so that prompt caches work.
    """
    messages, tools, choice = request.messages, request.config.tools, request.tool_choice
    if messages is None or not (tools or any(_has_tools(message) for message in messages)):
        return request, {}
    names = _fitting_names(dict.fromkeys(_names(messages, tools or (), choice)), rules)
    fitted = replace(request, messages=list(_fitted_messages(messages, names, rules)))
    if any(name != own for own, name in names.items()):
        if tools:
            renamed = [tool.model_copy(update={"name": names.get(tool.name or "", tool.name)}) for tool in tools]
            fitted = replace(fitted, config=request.config.model_copy(update={"tools": renamed}))
        if isinstance(choice, FunctionChoice):
            fitted = replace(
                fitted, tool_choice=FunctionChoice(function=FunctionName(name=names[choice.function.name]))
            )
    return fitted, {name: own for own, name in names.items() if name != own}


def _has_tools(message: ChatMessage) -> bool:
    return message.role == "tool" or bool(message.tool_calls) or message.tool_call is not None


def _names(messages: list[ChatMessage], tools: Iterable[ConfigTool], choice: object) -> Iterator[str]:
    yield from (tool.name for tool in tools if tool.name)
    if isinstance(choice, FunctionChoice):
        yield choice.function.name
    for message in messages:
        yield from (call.function.name for call in message.tool_calls or ())
        if message.tool_call:
            yield message.tool_call.name


def _fitting_names(names: Collection[str], rules: IdentifierRules) -> dict[str, str]:
    """Return a name that the provider takes for each, no two the same."""
    fitting = {name: name for name in names if rules.name is None or rules.name.fullmatch(name)}
    taken = set(fitting)
    for name in names:
        if name not in fitting:
            short = _OTHER_CHARACTERS.sub("_", name)[: rules.name_length]
            candidate = short if rules.name is None or rules.name.fullmatch(short) else f"_{short}"[: rules.name_length]
            if candidate in taken:
                candidate = f"{candidate[: rules.name_length - _HASH_CHARACTERS - 1]}_{_hash(name, _HASH_CHARACTERS)}"
            fitting[name] = candidate
            taken.add(candidate)
    return fitting


def _fitted_messages(
    messages: Iterable[ChatMessage], names: Mapping[str, str], rules: IdentifierRules
) -> Iterator[ChatMessage]:
    """Yield the messages with a unique id for each call; a result has that of the newest call with its id so far.

    Results for calls of one message that share an id are theirs in order.
    """
    used: dict[str, int] = {}
    awaited: dict[str, deque[str]] = {}
    for message in messages:
        if message.tool_calls:
            ids = [unique_id(call.id, used) for call in message.tool_calls]
            for call in message.tool_calls:
                awaited[call.id] = deque()
            for call, call_id in zip(message.tool_calls, ids, strict=True):
                awaited[call.id].append(call_id)
            calls = [
                _renamed(call, _fitting_id(call_id, rules), names)
                for call, call_id in zip(message.tool_calls, ids, strict=True)
            ]
            yield message.model_copy(update={"tool_calls": calls})
        elif message.tool_call:
            function = message.tool_call
            renamed = function.model_copy(update={"name": names[function.name]})
            yield message.model_copy(update={"tool_call": renamed})
        elif message.role == "tool" and message.tool_call_id is not None:
            call_id = _fitting_id(_answered(message.tool_call_id, awaited), rules)
            own = message.name and names.get(message.name, message.name)
            yield message.model_copy(update={"tool_call_id": call_id, "name": own})
        else:
            yield message


def _answered(call_id: str, awaited: Mapping[str, deque[str]]) -> str:
    """Return the id that the call has now; the last one with this id may be answered again."""
    calls = awaited.get(call_id)
    if not calls:
        return call_id
    return calls.popleft() if len(calls) > 1 else calls[0]


def _renamed(call: ToolCall, call_id: str, names: Mapping[str, str]) -> ToolCall:
    function = call.function.model_copy(update={"name": names[call.function.name]})
    return call.model_copy(update={"id": call_id, "function": function})


def _fitting_id(call_id: str, rules: IdentifierRules) -> str:
    if rules.call_id is None or rules.call_id.fullmatch(call_id):
        return call_id
    return _hash(call_id, rules.call_id_length)


def _hash(text: str, length: int) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:length]


def unique_id(call_id: str, used: dict[str, int]) -> str:
    """Return the id, with a number if it is in `used`, and `call_` and a number if it is empty; add it to `used`.

    `used` has with each id the number to go on with: thousands of calls may share one. The signature in the id stays
    its end (models/request.py).
    """
    own, mark, signature = call_id.partition(SIGNATURE_MARK)
    unique, number = own, used.get(own, 0)
    while not unique or unique in used:
        unique = f"{own or 'call'}_{number}"
        number += 1
    used[own] = number
    used.setdefault(unique, 0)
    return f"{unique}{mark}{signature}"


def restore(choice: Choice, names: Mapping[str, str], messages: Iterable[ChatMessage]) -> Choice:
    """Return an answer with the caller's names of its tools, and with ids of calls that no call in `messages` has."""
    if not choice.tool_calls:
        return choice
    own_ids = (call.id.partition(SIGNATURE_MARK)[0] for message in messages for call in message.tool_calls or ())
    used = dict.fromkeys(own_ids, 0)
    calls = []
    for call in choice.tool_calls:
        name = names.get(call.function.name, call.function.name)
        function = call.function.model_copy(update={"name": name})
        calls.append(call.model_copy(update={"id": unique_id(call.id, used), "function": function}))
    return replace(choice, tool_calls=calls)
