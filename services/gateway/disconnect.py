"""A caller that leaves before its answer has begun ends the work for it; later the broken connection tells."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from shared.errors import BadRequest

T = TypeVar("T")

_UNWATCHED_SECONDS = 0.5
"""Most answers come sooner, and watching costs a task; who leaves earlier is noticed after this."""


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. It is cancelled when the caller leaves; BadRequest then, which nobody reads."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=_UNWATCHED_SECONDS)
        if not task.done():
            await _until_done_or_disconnected(task, request)
        if task.done():
            return task.result()
        raise BadRequest("The caller left before its answer.")
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _until_done_or_disconnected(task: "asyncio.Task[Any]", request: Request) -> None:
    watch = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watch.cancel()


async def _disconnected(request: Request) -> None:
    """The body was read, so the next thing the server has to say is that the connection is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
