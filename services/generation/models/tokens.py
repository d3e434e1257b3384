"""Counts the tokens of requests and answers, for providers that report no usage.

OpenAI's own encodings, with the overhead of a message in its chat format; the overhead of tools is estimated. Other
vendors' tokenizers are not published or not small: cl100k_base stands for them, which is an estimate (Llama 3 extends
it; Claude of 4.7 and later counts about a third more).
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
_TOKENS_PER_MESSAGE = 3
_TOKENS_PER_NAME = 1
_TOKENS_BEFORE_REPLY = 3
"""https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb, 2026-11"""
_TOKENS_PER_TOOL = 12
"""Beside its definition as JSON; estimated from the same notebook."""
_CHUNK_CHARACTERS = 32_768
"""Counted at once: about a millisecond, during which the tokenizer holds the interpreter's lock."""
_LOAD_LOCK = Lock()


def count_prompt_tokens(request: ModelRequest) -> int:
    """Return the tokens of everything that is sent: messages or prompt, images, tool definitions."""
    count = _counter(request.config.model)
    if request.messages is None:
        return count(request.prompt or "")
    total = _TOKENS_BEFORE_REPLY + sum(count(text) for message in request.messages for text in _texts(message))
    total += sum(_TOKENS_PER_MESSAGE + _TOKENS_PER_NAME * (message.name is not None) for message in request.messages)
    total += sum(image_tokens.count(request.config.model, image.image_url) for image in _images(request.messages))
    return total + sum(_TOKENS_PER_TOOL + count(_definition(tool)) for tool in _tools(request))


def count_choice_tokens(model: str, choice: Choice) -> int:
    """Return the tokens of one sample: its text, and the names and arguments of its tool calls."""
    count = _counter(model)
    calls = [call.function for call in choice.tool_calls or ()]
    return count(choice.text) + sum(count(call.name) + count(call.arguments or "") for call in calls)


def count_usage(request: ModelRequest, choices: Sequence[Choice], reported: Usage | None = None) -> Usage:
    """Return the usage of a request and of as much of its answer as arrived.

    `reported` is what the provider reported: its prompt tokens are not counted again, and its generated tokens are used
    if they are more than ours. If it is a total alone, the prompt is counted, and the rest is generated.
    """
    reported = reported or Usage()
    prompt = reported.prompt_tokens or count_prompt_tokens(request)
    counted = sum(count_choice_tokens(request.config.model, choice) for choice in choices)
    generated = max(reported.generation_tokens, counted)
    if reported.total_tokens > reported.prompt_tokens + reported.generation_tokens:
        prompt = min(prompt, max(reported.total_tokens - counted, 0))
        generated = reported.total_tokens - prompt
    return reported.model_copy(
        update={"prompt_tokens": prompt, "generation_tokens": generated, "total_tokens": prompt + generated}
    )


def prompt_tokens_upper_bound(request: ModelRequest) -> int:
    """Return a number that `count_prompt_tokens` does not exceed, without tokenizing: a token has at least one byte."""
    if request.messages is None:
        return _max_bytes((request.prompt or "",))
    overhead = _TOKENS_PER_MESSAGE + _TOKENS_PER_NAME
    total = _TOKENS_BEFORE_REPLY + sum(overhead + _max_bytes(_texts(message)) for message in request.messages)
    total += sum(image_tokens.count(request.config.model, image.image_url) for image in _images(request.messages))
    return total + sum(_TOKENS_PER_TOOL + _max_bytes((_definition(tool),)) for tool in _tools(request))


def _max_bytes(texts: Iterable[str]) -> int:
    return sum(len(text) if text.isascii() else 4 * len(text) for text in texts)


def _texts(message: ChatMessage) -> Iterator[str]:
    """Yield everything in a message that is sent as text; an image's address is not."""
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
    """Return the function that counts the tokens of a text for this model."""
    return _encoding("o200k_base" if _O200K.match(model.lower()) else "cl100k_base")


@cache
def _load_bindings() -> Any:  # noqa: ANN401
    """Load the extension module of bpe_openai without the package around it, which builds the same tables again in
    Python: 0.7 s and 60 MB, measured in 2026-11, for nothing we use."""
    package = find_spec("bpe_openai")
    folders = (package and package.submodule_search_locations) or ()
    path = next(path for folder in folders for path in Path(folder).glob("_bindings*.so"))
    loader = ExtensionFileLoader("_bindings", str(path))
    module = module_from_spec(ModuleSpec(loader.name, loader, origin=str(path)))
    loader.exec_module(module)
    return module


@cache
def _encoding(name: str) -> Callable[[str], int]:
    """Load an encoding and return its counting function; both encodings together take 0.15 s and 100 MB."""
    with _LOAD_LOCK:  # two threads may load at once
        tokenizer = _load_bindings().tokenizer_for_encoding(name)

    def count(text: str) -> int:
        # A stream that breaks off can end with half of a surrogate pair, which UTF-8 cannot encode.
        clean = text.encode(errors="replace").decode()
        starts = range(0, len(clean), _CHUNK_CHARACTERS)
        return sum(tokenizer.count(clean[start : start + _CHUNK_CHARACTERS]) for start in starts)

    return count
