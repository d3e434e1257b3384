"""Response models of sessions (behaviour.md §6)."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from shared.contracts.generation.projects import ConfigType, Project
from shared.contracts.logs import Session


class CreateSessionResponse(BaseModel):
    """The id of a created session."""

    id: str


class SessionProjectResponse(BaseModel):
    """A project that has a log in the session."""

    id: str
    name: str
    type: Literal["prompt", "tool", "flow"]


_FILE_TYPES: dict[ConfigType, Literal["prompt", "tool", "flow"]] = {
    "model": "prompt",
    "tool": "tool",
    "agent": "flow",
    "generic": "flow",
}
"""The contract's later names for the kinds of projects."""


class SessionResponse(BaseModel):
    """A session: logs that belong together."""

    id: str
    reference_id: str | None
    projects: list[SessionProjectResponse]
    datapoints_count: int
    first_inputs: dict[str, Any] | None
    last_output: str | None
    created_at: datetime
    updated_at: datetime


def session_response(session: Session, projects: dict[str, Project]) -> SessionResponse:
    """Return the response model of a session; of its projects those not in `projects`, deleted ones, are left out."""
    session_projects = [projects[project_id] for project_id in session.project_ids if project_id in projects]
    return SessionResponse(
        id=session.id,
        reference_id=session.reference_id,
        projects=[
            SessionProjectResponse(id=project.id, name=project.name, type=_FILE_TYPES[project.config_type or "model"])
            for project in session_projects
        ],
        datapoints_count=session.datapoints_count,
        first_inputs=session.first_inputs,
        last_output=session.last_output,
        created_at=session.created_at,
        updated_at=session.updated_at,
    )
