"""Cancels the work for a request whose client disconnects before the response has begun.

Later the server notices by itself, because it can no longer write to the connection.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from shared.errors import BadRequest

T = TypeVar("T")

_WATCH_DELAY_SECONDS = 0.5
"""Watching the connection costs a task, and most answers come sooner; an earlier disconnect is noticed after this."""


async def cancel_on_disconnect(request: Request, coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of `coroutine`, or cancel it when the client disconnects.

    Raises what it raises, and after a disconnect BadRequest, which nobody reads. The body of `request` must have been
    read.
    """
    task = asyncio.create_task(coroutine)
    try:
        await asyncio.wait({task}, timeout=_WATCH_DELAY_SECONDS)
        if not task.done():
            await _wait_for_task_or_disconnect(task, request)
        if task.done():
            return task.result()
        raise BadRequest("The caller left before its answer.")
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _wait_for_task_or_disconnect(task: "asyncio.Task[Any]", request: Request) -> None:
    watcher = asyncio.create_task(_wait_for_disconnect(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watcher.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    """Return at `http.disconnect`: after the body it is the only message that the server still sends."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
