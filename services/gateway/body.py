"""Request bodies: read as JSON, and rid of `provider_api_keys` before anything else sees them.

Clients of the seed era put that field, with real secrets, into nearly every body (behaviour.md §1.2). It is taken out
wherever it stands; what stood at the top is kept beside the body for the routes that call a provider.
"""

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

SECRETS = "provider_api_keys"
DEEPEST = 128
"""Levels of nesting a body may have."""


class CleanRequest(Request):
    """A request whose JSON has no provider keys in it."""

    async def json(self) -> Any:  # noqa: ANN401 - any JSON
        """The body; what it had under `provider_api_keys` goes to `request.state`."""
        if not hasattr(self, "_json"):
            raw = await self.body()
            try:
                parsed = from_json(raw, allow_inf_nan=False)
            except ValueError as error:
                raise json.JSONDecodeError(str(error), raw.decode(errors="replace"), 0) from error
            if isinstance(parsed, dict):
                self.state.provider_api_keys = parsed.get(SECRETS)
            _clean(parsed, raw)
            self._json = parsed
        return self._json


def _clean(parsed: Any, raw: bytes) -> None:  # noqa: ANN401 - any JSON
    """Strip the keys; refuse what could be read here and nowhere after.

    Bus messages and documents wrap a body in a few levels of their own, and JSON has no infinity to write 1e999 with.
    """
    level = [parsed]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                item.pop(SECRETS, None)
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
            elif isinstance(item, float) and math.isinf(item):
                raise json.JSONDecodeError("a number is too large to be kept", raw.decode(errors="replace"), 0)
        if not inner:
            return
        level = inner
    raise json.JSONDecodeError(f"nested more than {DEEPEST} levels deep", raw.decode(errors="replace"), 0)


class CleanRoute(APIRoute):
    """A route whose handler gets a `CleanRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's documented place to exchange the request."""
        handle = super().get_route_handler()

        async def handle_clean(request: Request) -> Response:
            return await handle(CleanRequest(request.scope, request.receive))

        return handle_clean
