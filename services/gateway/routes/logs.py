"""Logs: recorded, read, completed later."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Response
from pydantic_core import to_json

from services.gateway.body import CompletingRoute, RecordingRoute, keep_images
from services.gateway.deps import Gateway, GatewayDep, require
from services.gateway.feedback_validation import with_feedback
from services.gateway.paging import PAGE_SECONDS, page_of
from services.gateway.schemas.bodies import LARGEST_PAGE, OneOrSeveral, PaginatedData, log_id
from services.gateway.schemas.logs import (
    CreateLogResponse,
    LogRequest,
    LogResponse,
    LogsQuery,
    UpdateLogRequest,
    log_response,
)
from services.gateway.session_inheritance import with_sessions
from shared.contracts.logs import GetLog, LogRecord, LogUpdate, Page, StoredLog
from shared.contracts.principal import Principal
from shared.errors import Invalid
from shared.permissions import EDIT_PROMPTS, VIEW_LOGS

router = APIRouter(tags=["Logs"], route_class=RecordingRoute)
completing = APIRouter(tags=["Logs"], route_class=CompletingRoute)

WriterDep = Annotated[Principal, Depends(require(EDIT_PROMPTS))]
ReaderDep = Annotated[Principal, Depends(require(VIEW_LOGS))]


@router.post("/logs", summary="Record one log or several", response_model=CreateLogResponse | list[CreateLogResponse])
async def log(body: Annotated[OneOrSeveral[LogRequest], Body()], caller: WriterDep, gateway: GatewayDep) -> Response:
    """200 means durable. Of an array either all are recorded or none; the answer has its shape and order."""
    requests = body if isinstance(body, list) else [body]
    _no_reference_twice(requests)
    records = await _records(requests, caller, gateway)
    if records:
        await gateway.logs.append([record.model_dump_json(exclude_none=True).encode() for record in records])
    for it in records:
        gateway.project_cache.note_log(caller.organisation, it.id, it.project_id)
    answers = [{"id": it.id, "project_id": it.project_id, "session_id": it.session_id} for it in records]
    return Response(to_json(answers if isinstance(body, list) else answers[0]), media_type="application/json")


def _no_reference_twice(requests: list[LogRequest]) -> None:
    """Within one call a repeat is no retry: the second log would be lost in silence."""
    seen: set[str] = set()
    for request in requests:
        if request.reference_id is not None and request.reference_id in seen:
            raise Invalid(f"reference_id {request.reference_id!r} stands twice in this call; each log needs its own.")
        seen.add(request.reference_id or "")


async def _records(requests: list[LogRequest], caller: Principal, gateway: Gateway) -> list[LogRecord]:
    records = []
    for request in requests:
        resolved = await gateway.project_cache.resolve(
            caller,
            request.project_ref(),
            config=None if request.config is None else request.config.config(),
            config_id=request.config_id if request.config is None else None,
        )
        records.append(request.record(caller, resolved))
    records = await with_sessions(gateway.bus, caller.organisation, records)
    given = [one for request, it in zip(requests, records, strict=True) for one in request.given(it)]
    return await with_feedback(gateway.project_cache, caller.organisation, records, given) if given else records


@router.get("/logs", summary="List the logs of a project")
async def list_logs(
    wanted: Annotated[LogsQuery, Query()], caller: ReaderDep, gateway: GatewayDep
) -> PaginatedData[LogResponse]:
    """Newest first unless `sort` says otherwise; what was accepted before this call is in it."""
    await gateway.project_cache.project(caller.organisation, wanted.project_id)
    search = wanted.search_of(caller)
    if search is None:
        return PaginatedData(records=[], page=wanted.page, size=wanted.size, total=0)

    async def ask(page: Page) -> tuple[list[StoredLog], int]:
        found = await gateway.bus.request(search.model_copy(update={"page": page}), timeout_seconds=PAGE_SECONDS)
        return found.logs, found.total

    logs, total = await page_of(search.page, ask)
    records = await _responses(logs, caller, gateway)
    return PaginatedData(records=records, page=wanted.page, size=wanted.size, total=total)


@router.post("/projects/{id}/export", summary="Export the logs of a project", tags=["Projects"])
async def export(
    id: str,  # noqa: A002 - the contract's name
    caller: ReaderDep,
    gateway: GatewayDep,
    page: Annotated[int, Query(ge=0, description="From 0.")] = 0,
    size: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 10,
) -> PaginatedData[LogResponse]:
    """Page by page, newest first."""
    return await list_logs(LogsQuery(project_id=id, page=page, size=size), caller, gateway)


@router.get("/logs/{id}", summary="Read a log")
async def get_log(id: str, caller: ReaderDep, gateway: GatewayDep) -> LogResponse:  # noqa: A002 - the contract's name
    """404 when there is none in the caller's organisation."""
    return await _read(id, caller, gateway)


@completing.patch("/logs", summary="Complete a log by its reference")
async def update_by_reference(
    reference_id: Annotated[str, Query(min_length=1)], body: UpdateLogRequest, caller: WriterDep, gateway: GatewayDep
) -> LogResponse:
    """Sets the output, error or duration of a log posted without it."""
    return await _update(log_id(caller, reference_id), body, caller, gateway)


@completing.patch("/logs/{id}", summary="Complete a log")
async def update(
    id: str,  # noqa: A002 - the contract's name
    body: UpdateLogRequest,
    caller: WriterDep,
    gateway: GatewayDep,
) -> LogResponse:
    """Sets the output, error or duration of a log posted without it."""
    return await _update(id, body, caller, gateway)


async def _update(identifier: str, body: UpdateLogRequest, caller: Principal, gateway: Gateway) -> LogResponse:
    found = await gateway.bus.request(GetLog(principal=caller, id=identifier))
    if found.save:
        await keep_images()
    change: LogUpdate | None = body.update(found)
    if change is not None:
        await gateway.logs.append([change.model_dump_json(exclude_none=True).encode()])
    return await _read(identifier, caller, gateway)


async def _read(identifier: str, caller: Principal, gateway: Gateway) -> LogResponse:
    found = await gateway.bus.request(GetLog(principal=caller, id=identifier))
    return (await _responses([found], caller, gateway))[0]


async def _responses(logs: list[StoredLog], caller: Principal, gateway: Gateway) -> list[LogResponse]:
    projects = await gateway.project_cache.projects(caller.organisation, (it.project_id for it in logs))
    versions = await gateway.project_cache.versions(caller.organisation, (it.config_id for it in logs))
    return [log_response(it, projects.get(it.project_id), versions.get(it.config_id)) for it in logs]
