"""Routes of sessions: list, create, get; the tree of a session's logs."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from services.gateway.deps import GatewayDep, require
from services.gateway.paging import PAGE_TIMEOUT_SECONDS, fetch_page
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.bodies import MAX_PAGE_NUMBER, MAX_PAGE_SIZE, PaginatedData
from services.gateway.schemas.sessions import CreateSessionResponse, SessionResponse, session_response
from shared import ids, telemetry
from shared.contracts.logs import GetSession, GetTree, ListSessions, Page, Session, SessionOpened, Tree
from shared.contracts.permissions import EDIT_PROMPTS, VIEW_LOGS
from shared.contracts.principal import Principal

router = APIRouter(tags=["Sessions"], route_class=BodyRoute)
console_router = APIRouter(tags=["Console"], route_class=BodyRoute)

ReaderDep = Annotated[Principal, Depends(require(VIEW_LOGS))]


@router.get("/sessions", summary="List the sessions of a project")
async def list_sessions(
    caller: ReaderDep,
    gateway: GatewayDep,
    project_id: str,
    page: Annotated[int, Query(ge=1, le=MAX_PAGE_NUMBER, description="From 1.")] = 1,
    size: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = 10,
) -> PaginatedData[SessionResponse]:
    """Sessions with at least one log of the project, newest first."""
    await gateway.project_cache.get_project(caller.organisation, project_id)

    async def list_page(page: Page) -> tuple[list[Session], int]:
        result = await gateway.bus.request(
            ListSessions(principal=caller, project_id=project_id, page=page),
            timeout_seconds=PAGE_TIMEOUT_SECONDS,
        )
        return result.sessions, result.total

    sessions, total = await fetch_page(Page(number=page - 1, size=size), list_page)
    project_ids = (project_id for session in sessions for project_id in session.project_ids)
    projects = await gateway.project_cache.get_many_projects(caller.organisation, project_ids)
    records = [session_response(session, projects) for session in sessions]
    return PaginatedData(records=records, page=page, size=size, total=total)


@router.post("/sessions", status_code=201, summary="Open a session")
async def create_session(
    caller: Annotated[Principal, Depends(require(EDIT_PROMPTS))], gateway: GatewayDep
) -> CreateSessionResponse:
    """Send its id as `session_id` of the session's logs."""
    opened = SessionOpened(
        id=ids.mint("sesh"),
        organisation=caller.organisation,
        created_at=datetime.now(UTC),
        trace=telemetry.trace_headers().get("traceparent"),
    )
    await gateway.logs.append([opened.model_dump_json().encode()])
    return CreateSessionResponse(id=opened.id)


@router.get("/sessions/{id}", summary="Read a session")
async def get_session(id: str, caller: ReaderDep, gateway: GatewayDep) -> SessionResponse:  # noqa: A002
    """404 if there is no such session in the caller's organisation."""
    session = await gateway.bus.request(GetSession(principal=caller, id=id))
    return session_response(
        session, await gateway.project_cache.get_many_projects(caller.organisation, session.project_ids)
    )


@console_router.get("/sessions/{id}/tree", summary="The logs of a session as a tree")
async def get_tree(id: str, caller: ReaderDep, gateway: GatewayDep) -> Tree:  # noqa: A002
    """Roots by time of creation; a log whose parent has not arrived yet is a root until it does."""
    return await gateway.bus.request(GetTree(principal=caller, session_id=id))
