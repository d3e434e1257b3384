"""The route of feedback on logs."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response
from pydantic_core import to_json

from services.gateway.deps import Gateway, GatewayDep, require
from services.gateway.feedback_validation import may_still_arrive, validate_feedback
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.bodies import OneOrMany
from services.gateway.schemas.feedback import FeedbackRequest, FeedbackResponse, feedback_responses
from shared.contracts.logs import FeedbackGiven, FeedbackOfLogs, GetFeedback
from shared.contracts.permissions import EDIT_PROMPTS
from shared.contracts.principal import Principal
from shared.errors import NotFound, Unavailable

router = APIRouter(tags=["Feedback"], route_class=BodyRoute)

CallerDep = Annotated[Principal, Depends(require(EDIT_PROMPTS, limited=True))]


@router.post("/feedback", summary="Say something about logs", response_model=FeedbackResponse | list[FeedbackResponse])
async def feedback(
    body: Annotated[OneOrMany[FeedbackRequest], Body()], caller: CallerDep, gateway: GatewayDep
) -> Response:
    """200 means durable. Of an array all or none is recorded; the response has its shape and order."""
    requests = body if isinstance(body, list) else [body]
    in_turns = gateway.fair_order.in_turns(caller.organisation, requests)
    received = [request.to_feedback(caller) async for request in in_turns]
    before = await _get_feedback(received, caller, gateway)
    projects = _projects_by_log_id(received, before, caller, gateway)
    validated = await validate_feedback(gateway.project_cache, caller.organisation, received, projects)
    if validated:
        to_encode = gateway.fair_order.in_turns(caller.organisation, validated)
        await gateway.logs.append([item.model_dump_json(exclude_none=True).encode() async for item in to_encode])
    responses = feedback_responses(validated, before)
    return Response(to_json(responses if isinstance(body, list) else responses[0]), media_type="application/json")


async def _get_feedback(feedback: list[FeedbackGiven], caller: Principal, gateway: Gateway) -> FeedbackOfLogs:
    """Return the projects of the logs, and their present feedback of the types that `feedback` unsets.

    Raises Unavailable if what is unset may be among the accepted feedback that is not stored yet.
    """
    if not feedback:
        return FeedbackOfLogs(logs=[])
    log_ids = list(dict.fromkeys(item.log_id for item in feedback))
    types = list(dict.fromkeys(item.type for item in feedback if item.unset))
    found = await gateway.bus.request(GetFeedback(principal=caller, log_ids=log_ids, types=types))
    if types and not found.complete:
        raise Unavailable("Accepted feedback is still being stored, perhaps what is unset. Try again.")
    return found


def _projects_by_log_id(
    feedback: list[FeedbackGiven], before: FeedbackOfLogs, caller: Principal, gateway: Gateway
) -> dict[str, str]:
    """Return project ids by log id; a log that may still be stored, and whose project is unknown, is left out. To a key
    that is limited to projects, only what is stored is there, since what is expected may be of another project.

    Raises NotFound if there is no such log and none can arrive, Unavailable if `before` is incomplete and may lack it.
    """
    if before.deleted_ids:
        raise NotFound(f"data_id: there is no log {before.deleted_ids[0]!r}.")
    projects = {log.log_id: log.project_id for log in before.logs}
    for log_id in {item.log_id: None for item in feedback if item.log_id not in projects}:
        if caller.projects is not None and before.complete:
            raise NotFound(f"data_id: there is no log {log_id!r}.")
        if caller.projects is not None:
            raise Unavailable(f"data_id: logs are being stored, perhaps {log_id!r} among them. Try again.")
        project_id = gateway.project_cache.get_project_of_log(caller.organisation, log_id)
        if project_id is not None:
            projects[log_id] = project_id
        elif not before.complete and not may_still_arrive(log_id):
            raise Unavailable(f"data_id: logs are being stored, perhaps {log_id!r} among them. Try again.")
        elif not may_still_arrive(log_id):
            raise NotFound(f"data_id: there is no log {log_id!r}.")
    return projects
