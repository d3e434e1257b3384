"""`snippet` (behaviour.md §14.2): returns the passage of a key."""

from services.generation.tools.base import Invocation, ToolKind, ToolServices
from shared.contracts.generation.tools import Snippet
from shared.errors import Invalid


def _parameters(_: Snippet) -> tuple[str, ...]:
    return ("key",)


async def _run(call: Invocation[Snippet], _: ToolServices) -> str:
    (key,) = call.arguments
    for pair in call.settings.pairs:
        if pair.key == key:
            return pair.value
    known = ", ".join(repr(pair.key) for pair in call.settings.pairs)
    raise Invalid(f"It has no key {key!r}; it has {known}.")


KIND = ToolKind(_parameters, _run)
