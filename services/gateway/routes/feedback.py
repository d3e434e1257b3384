"""Feedback: what people say about logs."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response
from pydantic_core import to_json

from services.gateway.body import CleanRoute
from services.gateway.deps import Gateway, GatewayDep, require
from services.gateway.feedback_validation import may_come, settled
from services.gateway.schemas.bodies import OneOrSeveral
from services.gateway.schemas.feedback import FeedbackRequest, FeedbackResponse, feedback_responses
from shared.contracts.logs import FeedbackGiven, FeedbackOfLogs, GetFeedback
from shared.contracts.principal import Principal
from shared.errors import NotFound, Unavailable
from shared.permissions import EDIT_PROMPTS

router = APIRouter(tags=["Feedback"], route_class=CleanRoute)

CallerDep = Annotated[Principal, Depends(require(EDIT_PROMPTS))]


@router.post("/feedback", summary="Say something about logs", response_model=FeedbackResponse | list[FeedbackResponse])
async def feedback(
    body: Annotated[OneOrSeveral[FeedbackRequest], Body()], caller: CallerDep, gateway: GatewayDep
) -> Response:
    """200 means durable. Of an array either all is recorded or nothing; the answer has its shape and order."""
    requests = body if isinstance(body, list) else [body]
    given = [request.about(caller) for request in requests]
    before = await _before(given, caller, gateway)
    projects = _projects(given, before, caller, gateway)
    given = await settled(gateway.project_cache, caller.organisation, given, projects)
    if given:
        await gateway.logs.append([one.model_dump_json(exclude_none=True).encode() for one in given])
    answers = feedback_responses(given, before)
    return Response(to_json(answers if isinstance(body, list) else answers[0]), media_type="application/json")


async def _before(given: list[FeedbackGiven], caller: Principal, gateway: Gateway) -> FeedbackOfLogs:
    """Where the logs are, and of those from which something is taken back, what it was."""
    if not given:
        return FeedbackOfLogs(logs=[])
    log_ids = list(dict.fromkeys(one.log_id for one in given))
    types = list(dict.fromkeys(one.type for one in given if one.unset))
    return await gateway.bus.request(GetFeedback(principal=caller, log_ids=log_ids, types=types))


def _projects(
    given: list[FeedbackGiven], before: FeedbackOfLogs, caller: Principal, gateway: Gateway
) -> dict[str, str]:
    """The project of each log, if it is known. Errors: NotFound, no log has this id and none will; Unavailable."""
    projects = {log.log_id: log.project_id for log in before.logs}
    for log_id in {one.log_id: None for one in given if one.log_id not in projects}:
        project_id = gateway.project_cache.project_of_log(caller.organisation, log_id)
        if project_id is not None:
            projects[log_id] = project_id
        elif not before.complete and not may_come(log_id):
            raise Unavailable(f"data_id: logs are being stored, perhaps {log_id!r} among them. Try again.")
        elif not may_come(log_id):
            raise NotFound(f"data_id: there is no log {log_id!r}.")
    return projects
