"""Routes of logs: create, list, get, update, delete, export."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Response
from pydantic import JsonValue
from pydantic_core import to_json

from services.gateway.deps import Gateway, GatewayDep, require
from services.gateway.feedback_validation import attach_feedback, may_still_arrive
from services.gateway.paging import PAGE_TIMEOUT_SECONDS, fetch_page
from services.gateway.requests.route import DeferredImagesRoute, ReadRoute, SavedImagesRoute, store_request_images
from services.gateway.schemas.bodies import (
    MAX_PAGE_NUMBER,
    MAX_PAGE_SIZE,
    OneOrMany,
    PaginatedData,
    log_id_of_reference,
)
from services.gateway.schemas.logs import (
    CreateLogResponse,
    LogRequest,
    LogResponse,
    LogsQuery,
    UpdateLogRequest,
    log_response,
)
from services.gateway.session_inheritance import check_no_parent, inherit_sessions
from shared import telemetry
from shared.audit import audit_entry
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.logs import Audited, GetFeedback, GetLog, LogDeleted, LogRecord, LogUpdate, Page, StoredLog
from shared.contracts.permissions import EDIT_PROMPTS, VIEW_LOGS
from shared.contracts.principal import Principal
from shared.errors import Invalid, NotFound, Unavailable
from shared.permissions import check_project

router = APIRouter(tags=["Logs"], route_class=SavedImagesRoute)
export_router = APIRouter(tags=["Projects"], route_class=ReadRoute)
update_router = APIRouter(tags=["Logs"], route_class=DeferredImagesRoute)

WriterDep = Annotated[Principal, Depends(require(EDIT_PROMPTS, limited=True))]
ReaderDep = Annotated[Principal, Depends(require(VIEW_LOGS, limited=True))]


@router.post("/logs", summary="Record one log or several", response_model=CreateLogResponse | list[CreateLogResponse])
async def log(body: Annotated[OneOrMany[LogRequest], Body()], caller: WriterDep, gateway: GatewayDep) -> Response:
    """200 means durable. Of an array all or none are recorded; the response has its shape and order."""
    requests = body if isinstance(body, list) else [body]
    _check_references_differ(requests)
    records = await _create_records(requests, caller, gateway)
    if records:
        in_turns = gateway.fair_order.in_turns(caller.organisation, records)
        await gateway.logs.append([record.model_dump_json(exclude_none=True).encode() async for record in in_turns])
    for record in records:
        gateway.project_cache.set_project_of_log(caller.organisation, record.id, record.project_id)
    responses = [
        {"id": record.id, "project_id": record.project_id, "session_id": record.session_id} for record in records
    ]
    return Response(to_json(responses if isinstance(body, list) else responses[0]), media_type="application/json")


def _check_references_differ(requests: list[LogRequest]) -> None:
    """Raise Invalid if two logs have one `reference_id`: the second would be dropped as a retry of the first."""
    seen: set[str] = set()
    for request in requests:
        if request.reference_id is not None and request.reference_id in seen:
            raise Invalid(f"reference_id {request.reference_id!r} stands twice in this call; each log needs its own.")
        seen.add(request.reference_id or "")


async def _create_records(requests: list[LogRequest], caller: Principal, gateway: Gateway) -> list[LogRecord]:
    """Return the log records, with project, config, session and feedback resolved."""
    records = []
    async for request in gateway.fair_order.in_turns(caller.organisation, requests):
        resolved = await gateway.project_cache.resolve(
            caller,
            request.project_ref(),
            config=None if request.config is None else request.config.to_config(),
            config_id=request.config_id if request.config is None else None,
        )
        records.append(record := request.to_record(caller, resolved))
        check_no_parent(caller, record.parent_id)
    records = await inherit_sessions(gateway.bus, caller.organisation, records)
    feedback = [item for request, record in zip(requests, records, strict=True) for item in request.to_feedback(record)]
    return await attach_feedback(gateway.project_cache, caller.organisation, records, feedback) if feedback else records


@router.get("/logs", summary="List the logs of a project")
async def list_logs(
    query: Annotated[LogsQuery, Query()], caller: ReaderDep, gateway: GatewayDep
) -> PaginatedData[LogResponse]:
    """Newest first unless `sort` says otherwise; includes all logs accepted before this request."""
    check_project(caller, query.project_id)
    await gateway.project_cache.get_project(caller.organisation, query.project_id)
    search = query.to_search(caller)
    if search is None:
        return PaginatedData(records=[], page=query.page, size=query.size, total=0)

    async def search_logs(page: Page) -> tuple[list[StoredLog], int]:
        result = await gateway.bus.request(
            search.model_copy(update={"page": page}), timeout_seconds=PAGE_TIMEOUT_SECONDS
        )
        return result.logs, result.total

    logs, total = await fetch_page(search.page, search_logs)
    records = await _log_responses(logs, caller, gateway)
    return PaginatedData(records=records, page=query.page, size=query.size, total=total)


@router.delete("/logs", status_code=204, summary="Delete logs")
async def delete(
    caller: WriterDep,
    gateway: GatewayDep,
    id: Annotated[list[str], Query(description="Of the logs; those there are none of are ignored.")] = [],  # noqa: A002, B006
) -> Response:
    """204 means durable: no later read has them, nor their feedback, and their ids and `reference_id`s are not used
    again. Without an `id` nothing is deleted.
    """
    log_ids = await _existing_log_ids(list(dict.fromkeys(id)), caller, gateway)
    now, trace = datetime.now(UTC), telemetry.trace_headers().get("traceparent")
    deletions = [
        LogDeleted(id=log_id, organisation=caller.organisation, at=now, actor=caller.actor, trace=trace)
        for log_id in log_ids
    ]
    if deletions:
        records = [*deletions, Audited(entry=_deletion_entry(log_ids, caller), trace=trace)]
        await gateway.logs.append([record.model_dump_json(exclude_none=True).encode() for record in records])
    return Response(status_code=204)


def _deletion_entry(log_ids: list[str], caller: Principal) -> AuditEntry:
    changed = AuditObject(kind="log", id=log_ids[0] if len(log_ids) == 1 else None)
    details: dict[str, JsonValue] = {"count": len(log_ids), "ids": [*log_ids]}
    return audit_entry("logs.deleted", caller, caller.organisation, changed, details=details)


async def _existing_log_ids(log_ids: list[str], caller: Principal, gateway: Gateway) -> list[str]:
    """Return those of the ids that logs of the organisation have or may still get. Raises Unavailable if some logs are
    not stored yet, perhaps those.
    """
    if not log_ids:
        return []
    known = await gateway.bus.request(GetFeedback(principal=caller, log_ids=log_ids))
    stored = {log.log_id for log in known.logs}
    others = [log_id for log_id in log_ids if log_id not in stored and log_id not in known.deleted_ids]
    expected = [log_id for log_id in others if caller.projects is None and may_still_arrive(log_id)]
    if len(expected) < len(others) and not known.complete:
        raise Unavailable("id: logs are being stored, perhaps some of these. Try again.")
    return [log_id for log_id in log_ids if log_id in stored or log_id in expected]


@export_router.post("/projects/{id}/export", summary="Export the logs of a project")
async def export(
    id: str,  # noqa: A002 - the contract's name
    caller: ReaderDep,
    gateway: GatewayDep,
    page: Annotated[int, Query(ge=0, le=MAX_PAGE_NUMBER, description="From 0.")] = 0,
    size: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = 10,
) -> PaginatedData[LogResponse]:
    """A page of all logs, newest first."""
    return await list_logs(LogsQuery(project_id=id, page=page, size=size), caller, gateway)


@router.get("/logs/{id}", summary="Read a log")
async def get_log(id: str, caller: ReaderDep, gateway: GatewayDep) -> LogResponse:  # noqa: A002 - the contract's name
    """404 if there is no such log in the caller's organisation."""
    return await _get_log(id, caller, gateway)


@update_router.patch("/logs", summary="Complete a log by its reference")
async def update_by_reference(
    reference_id: Annotated[str, Query(min_length=1)], body: UpdateLogRequest, caller: WriterDep, gateway: GatewayDep
) -> LogResponse:
    """Sets the output, error or duration of a log posted without it."""
    try:
        return await _update(log_id_of_reference(caller, reference_id), body, caller, gateway)
    except NotFound:
        raise NotFound(f"There is no log with the reference_id {reference_id!r}.") from None


@update_router.patch("/logs/{id}", summary="Complete a log")
async def update(
    id: str,  # noqa: A002 - the contract's name
    body: UpdateLogRequest,
    caller: WriterDep,
    gateway: GatewayDep,
) -> LogResponse:
    """Sets the output, error or duration of a log posted without it."""
    return await _update(id, body, caller, gateway)


async def _update(log_id: str, body: UpdateLogRequest, caller: Principal, gateway: Gateway) -> LogResponse:
    log = await gateway.bus.request(GetLog(principal=caller, id=log_id))
    if log.save:
        await store_request_images()
    update: LogUpdate | None = body.to_update(log)
    if update is not None:
        await gateway.logs.append([update.model_dump_json(exclude_none=True).encode()])
    return await _get_log(log_id, caller, gateway)


async def _get_log(log_id: str, caller: Principal, gateway: Gateway) -> LogResponse:
    log = await gateway.bus.request(GetLog(principal=caller, id=log_id))
    return (await _log_responses([log], caller, gateway))[0]


async def _log_responses(logs: list[StoredLog], caller: Principal, gateway: Gateway) -> list[LogResponse]:
    projects = await gateway.project_cache.get_many_projects(caller.organisation, (log.project_id for log in logs))
    versions = await gateway.project_cache.get_many_versions(caller.organisation, (log.config_id for log in logs))
    return [log_response(log, projects.get(log.project_id), versions.get(log.config_id)) for log in logs]
