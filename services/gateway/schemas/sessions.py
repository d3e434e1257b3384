"""Sessions (behaviour.md §6)."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from shared.contracts.logs import Session
from shared.contracts.projects import Project


class CreateSessionResponse(BaseModel):
    """The new session."""

    id: str


class SessionProjectResponse(BaseModel):
    """A project with a log in the session."""

    id: str
    name: str
    type: Literal["prompt", "tool"]


class SessionResponse(BaseModel):
    """Logs that belong together."""

    id: str
    reference_id: str | None
    projects: list[SessionProjectResponse]
    datapoints_count: int
    first_inputs: dict[str, Any] | None
    last_output: str | None
    created_at: datetime
    updated_at: datetime


def session_response(session: Session, projects: dict[str, Project]) -> SessionResponse:
    """A session together with the names of its projects; deleted ones are left out."""
    known = [projects[project_id] for project_id in session.project_ids if project_id in projects]
    return SessionResponse(
        id=session.id,
        reference_id=session.reference_id,
        projects=[
            SessionProjectResponse(
                id=project.id, name=project.name, type="tool" if project.config_type == "tool" else "prompt"
            )
            for project in known
        ],
        datapoints_count=session.datapoints_count,
        first_inputs=session.first_inputs,
        last_output=session.last_output,
        created_at=session.created_at,
        updated_at=session.updated_at,
    )
