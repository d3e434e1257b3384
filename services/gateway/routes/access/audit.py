"""Routes of the audit log: read and export. Nothing changes it. The v4 contract has none of them."""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from services.gateway.deps import Gateway, GatewayDep, require
from services.gateway.requests.route import BodyRoute
from services.gateway.responses.export import export_response
from services.gateway.schemas.access.audit import (
    AuditExportQuery,
    AuditLogResponse,
    AuditPageQuery,
    csv_header,
    csv_of,
    jsonl_of,
    page_response,
)
from shared.contracts.audit import MAX_ENTRIES, AuditEntry, ListAuditEntries
from shared.contracts.permissions import EDIT_ORGANISATION
from shared.contracts.principal import Principal

router = APIRouter(tags=["Audit log"], route_class=BodyRoute)

AdminDep = Annotated[Principal, Depends(require(EDIT_ORGANISATION))]


@router.get("/audit-log", summary="Who changed what, when, and from where")
async def list_entries(
    query: Annotated[AuditPageQuery, Query()], caller: AdminDep, gateway: GatewayDep
) -> AuditLogResponse:
    """Newest first. A change is in it within about a second."""
    return page_response(await gateway.bus.request(query.to_query(caller)))


@router.get("/audit-log/export", summary="Export the audit log", response_class=Response)
async def export(query: Annotated[AuditExportQuery, Query()], caller: AdminDep, gateway: GatewayDep) -> Response:
    """All entries that match, newest first, as lines of JSON or as CSV. A file without its end breaks off."""
    pages = _pages(query.to_query(caller), gateway)
    if query.format == "csv":
        return await export_response(_csv(pages), "text/csv; charset=utf-8", "audit-log.csv")
    return await export_response(_jsonl(pages), "application/x-ndjson", "audit-log.jsonl")


async def _pages(query: ListAuditEntries, gateway: Gateway) -> AsyncGenerator[list[AuditEntry], None]:
    """Yield the entries of a query page by page, at least one page."""
    query = query.model_copy(update={"limit": MAX_ENTRIES})
    while True:
        page = await gateway.bus.request(query)
        yield page.entries
        if page.next is None:
            return
        query = query.model_copy(update={"before": page.next})


async def _csv(pages: AsyncGenerator[list[AuditEntry], None]) -> AsyncGenerator[bytes, None]:
    first = await anext(pages)
    yield csv_header() + csv_of(first)
    async for entries in pages:
        yield csv_of(entries)


async def _jsonl(pages: AsyncGenerator[list[AuditEntry], None]) -> AsyncGenerator[bytes, None]:
    async for entries in pages:
        yield jsonl_of(entries)
