"""Tokens of what is sent and of what came, counted here when the provider tells no numbers.

OpenAI's own encodings, with the overhead a message has in its chat format; what tools add is estimated. Other vendors'
tokenizers are not published or not small: cl100k_base stands for them, which is an estimate (Llama 3 extends it; Claude
of 4.7 and later counts about a third more).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic_core import to_json

from services.generation.models import image_tokens
from services.generation.models.request import Choice, ModelRequest
from shared.contracts.chat import ChatMessage, Image, InlineTool, Usage

_O200K = re.compile(r"(.*[^a-z0-9])?(gpt-4o|gpt-4\.[15]|gpt-[5-9]|gpt-oss|chatgpt-4o|o[1-9](?![a-z0-9]))")
"""https://github.com/openai/tiktoken/blob/main/tiktoken/model.py, 2026-11"""
_A_MESSAGE = 3
_A_NAME = 1
_THE_ANSWER = 3
"""https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb, 2026-11"""
_A_TOOL = 12
"""Beside its definition as JSON; estimated from the same notebook."""
_PIECE = 32_768
"""Characters counted at once: about a millisecond, in which no other thread runs."""
_LOADING = Lock()


def of_prompt(request: ModelRequest) -> int:
    """Tokens of all that is sent."""
    count = _counter(request.config.model)
    if request.messages is None:
        return count(request.prompt or "")
    total = _THE_ANSWER + sum(count(text) for message in request.messages for text in _texts(message))
    total += sum(_A_MESSAGE + _A_NAME * (message.name is not None) for message in request.messages)
    total += sum(image_tokens.count(request.config.model, image.image_url) for image in _images(request.messages))
    return total + sum(_A_TOOL + count(_definition(tool)) for tool in _tools(request))


def of_choice(model: str, choice: Choice) -> int:
    """Tokens the model wrote: text, and the names and arguments of the calls it asked for."""
    count = _counter(model)
    calls = [call.function for call in choice.tool_calls or ()]
    return count(choice.text) + sum(count(call.name) + count(call.arguments or "") for call in calls)


def used(request: ModelRequest, choices: Sequence[Choice], told: Usage | None = None) -> Usage:
    """Of a request and as much of its answer as came. What the provider told of it so far goes before what we count."""
    told = told or Usage()
    prompt = told.prompt_tokens or of_prompt(request)
    generated = max(told.generation_tokens, sum(of_choice(request.config.model, choice) for choice in choices))
    return Usage(prompt_tokens=prompt, generation_tokens=generated, total_tokens=prompt + generated)


def at_most(request: ModelRequest) -> int:
    """A number `of_prompt` does not exceed, without counting: a token is a byte at least."""
    if request.messages is None:
        return _bytes((request.prompt or "",))
    total = _THE_ANSWER + sum(_A_MESSAGE + _A_NAME + _bytes(_texts(message)) for message in request.messages)
    total += sum(image_tokens.count(request.config.model, image.image_url) for image in _images(request.messages))
    return total + sum(_A_TOOL + _bytes((_definition(tool),)) for tool in _tools(request))


def _bytes(texts: Iterable[str]) -> int:
    return sum(len(text) if text.isascii() else 4 * len(text) for text in texts)


def _texts(message: ChatMessage) -> Iterator[str]:
    """Everything of a message that is text; an image's address is not."""
    yield message.role
    yield message.name or ""
    if isinstance(message.content, str):
        yield message.content
    elif message.content is not None:
        for part in message.content:
            if not isinstance(part, Image):
                yield part.text
    for call in message.tool_calls or ():
        yield call.function.name
        yield call.function.arguments or ""


def _images(messages: Sequence[ChatMessage]) -> Iterator[Image]:
    for message in messages:
        if isinstance(message.content, list):
            yield from (part for part in message.content if isinstance(part, Image))


def _tools(request: ModelRequest) -> list[InlineTool]:
    return [tool for tool in request.config.tools or () if isinstance(tool, InlineTool)]


def _definition(tool: InlineTool) -> str:
    return to_json([tool.name, tool.description, tool.parameters]).decode()


def _counter(model: str) -> Callable[[str], int]:
    return _encoding("o200k_base" if _O200K.match(model.lower()) else "cl100k_base")


@cache
def _rust() -> Any:  # noqa: ANN401
    """The extension module of bpe_openai without the package around it, which builds the same tables again in Python:
    0.7 s and 60 MB, measured in 2026-11, for nothing we use."""
    package = find_spec("bpe_openai")
    folders = (package and package.submodule_search_locations) or ()
    path = next(path for folder in folders for path in Path(folder).glob("_bindings*.so"))
    loader = ExtensionFileLoader("_bindings", str(path))
    module = module_from_spec(ModuleSpec(loader.name, loader, origin=str(path)))
    loader.exec_module(module)
    return module


@cache
def _encoding(name: str) -> Callable[[str], int]:
    """Loaded when first needed: the two together take 0.15 s and 100 MB."""
    with _LOADING:  # two threads at once
        tokenizer = _rust().tokenizer_for_encoding(name)

    def count(text: str) -> int:
        # Half of a surrogate pair can come with a stream that breaks off; it has no bytes.
        clean = text.encode(errors="replace").decode()
        return sum(tokenizer.count(clean[at : at + _PIECE]) for at in range(0, len(clean), _PIECE))

    return count
