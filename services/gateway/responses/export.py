"""A file that is sent while it is read, page by page."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from starlette.types import Send

from shared.errors import Problem

logger = logging.getLogger(__name__)


class ExportResponse(StreamingResponse):
    """A response of `parts`, which ends without the end of its body if one cannot be read: uvicorn closes then."""

    def __init__(self, parts: AsyncGenerator[bytes, None], media_type: str, filename: str) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{filename}"', "Cache-Control": "no-store"}
        super().__init__(parts, media_type=media_type, headers=headers)
        self._parts = parts

    async def stream_response(self, send: Send) -> None:
        """Send the response; log a Problem that ends it early."""
        try:
            async with aclosing(self._parts):
                await super().stream_response(send)
        except Problem as problem:
            logger.warning("an export broke off: %s", problem.message, extra={"status": problem.status})


async def export_response(parts: AsyncGenerator[bytes, None], media_type: str, filename: str) -> ExportResponse:
    """Return the response of `parts`, at least one, after waiting for the first; raises what fails before it."""
    first = await anext(parts)

    async def all_parts() -> AsyncGenerator[bytes, None]:
        yield first
        async for part in parts:
            yield part

    return ExportResponse(all_parts(), media_type, filename)
