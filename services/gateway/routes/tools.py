"""Routes of the organisation's tools. The v4 contract has none of them (behaviour.md §14.1)."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from services.gateway.deps import Gateway, GatewayDep, require
from services.gateway.paging import fetch_all
from services.gateway.requests.route import BodyRoute
from services.gateway.responses.openapi import PROVIDER_FAILURES
from services.gateway.schemas.tools import (
    CreateToolRequest,
    RunToolRequest,
    SecretName,
    ToolResponse,
    UpdateToolRequest,
    tool_response,
)
from shared.contracts.chat import ToolResult
from shared.contracts.generation.tools import (
    RUN_SECONDS,
    CreateTool,
    DeleteTool,
    GetTools,
    ListTools,
    RunTool,
    Tool,
    UpdateTool,
)
from shared.contracts.logs import Page
from shared.contracts.permissions import EDIT_PROMPTS
from shared.contracts.principal import Principal
from shared.errors import NotFound

router = APIRouter(tags=["Tools"], route_class=BodyRoute)

CallerDep = Annotated[Principal, Depends(require(EDIT_PROMPTS))]


@router.get("/tools", summary="List the organisation's tools")
async def list_tools(
    caller: Annotated[Principal, Depends(require(EDIT_PROMPTS, limited=True))], gateway: GatewayDep
) -> list[ToolResponse]:
    """Ordered by name, each with the signature that templates call it by."""

    async def list_page(page: Page) -> tuple[list[Tool], int]:
        result = await gateway.bus.request(ListTools(principal=caller, page=page))
        return result.tools, result.total

    return [tool_response(tool) for tool in await fetch_all(list_page)]


@router.post("/tools", status_code=201, summary="Make a tool")
async def create_tool(body: CreateToolRequest, caller: CallerDep, gateway: GatewayDep) -> ToolResponse:
    """Every project can use it at once. 409 if the organisation has a tool with this name."""
    command = CreateTool(
        principal=caller,
        name=body.name,
        settings=body.settings,
        sealed_secrets=_encrypt(body.secrets, gateway),
    )
    return tool_response(await gateway.bus.request(command))


@router.get("/tools/{id}", summary="Read a tool")
async def get_tool(id: str, caller: CallerDep, gateway: GatewayDep) -> ToolResponse:  # noqa: A002
    """404 if the caller's organisation has no tool with this id."""
    tools = (await gateway.bus.request(GetTools(principal=caller, ids=[id]))).tools
    if not tools:
        raise NotFound(f"There is no tool {id!r}.")
    return tool_response(tools[0])


@router.patch("/tools/{id}", summary="Change a tool")
async def update_tool(id: str, body: UpdateToolRequest, caller: CallerDep, gateway: GatewayDep) -> ToolResponse:  # noqa: A002
    """In effect from the next call of every prompt that uses it; no prompt gets a new version."""
    command = UpdateTool(
        principal=caller,
        id=id,
        name=body.name,
        changes=body.settings,
        sealed_secrets=_encrypt(body.secrets, gateway),
    )
    return tool_response(await gateway.bus.request(command))


@router.delete("/tools/{id}", status_code=204, summary="Remove a tool")
async def delete_tool(id: str, caller: CallerDep, gateway: GatewayDep) -> Response:  # noqa: A002
    """Prompts that use it fail from then on with an error that names it."""
    await gateway.bus.request(DeleteTool(principal=caller, id=id))
    return Response(status_code=204)


@router.post("/tools/{id}/run", summary="Call a tool once", responses=PROVIDER_FAILURES)
async def run_tool(id: str, body: RunToolRequest, caller: CallerDep, gateway: GatewayDep) -> ToolResult:  # noqa: A002
    """Returns the result a prompt would get. Nothing is logged."""
    command = RunTool(principal=caller, id=id, arguments=body.arguments)
    return await gateway.bus.request(command, timeout_seconds=RUN_SECONDS)


def _encrypt(secrets: Mapping[SecretName, str], gateway: Gateway) -> str | None:
    return gateway.secret_box.encrypt({str(name): secret for name, secret in secrets.items()}) if secrets else None
