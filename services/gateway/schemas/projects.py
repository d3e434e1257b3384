"""Projects and their feedback types (behaviour.md §7, §8)."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.schemas.bodies import LARGEST_PAGE, Body
from services.gateway.schemas.configs import ProjectConfigResponse, config_response
from shared.contracts.access import Member
from shared.contracts.deployments import Active
from shared.contracts.logs import ConfigUse, Page, Uses
from shared.contracts.principal import Principal
from shared.contracts.projects import (
    LONGEST_NAME,
    MOST_FEEDBACK_LABELS,
    MOST_FEEDBACK_TYPES,
    ConfigVersion,
    FeedbackClass,
    FeedbackLabel,
    FeedbackType,
    ListProjects,
    Project,
    ProjectDetails,
    Sentiment,
)

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Directory = Annotated[str, Field(max_length=LONGEST_NAME)]


class ProjectsQuery(BaseModel):
    """What `GET /projects` takes."""

    page: int = Field(0, ge=0, description="From 0.")
    size: int = Field(10, ge=1, le=LARGEST_PAGE)
    filter: str | None = Field(None, max_length=1000, description="A part of the name, upper and lower case alike.")
    user_filter: str | None = Field(None, max_length=1000, description="A part of a member's email address or name.")
    sort_by: Literal["created_at", "updated_at", "name"] = "created_at"
    order: Literal["asc", "desc"] = "desc"

    def concerns(self, members: list[Member]) -> bool:
        """Whether `user_filter` finds somebody: every member is in every project."""
        wanted = (self.user_filter or "").lower()
        return any(wanted in known.lower() for one in members for known in (one.email, one.full_name or ""))

    def listing(self, caller: Principal, page: Page) -> ListProjects:
        """The question for generation."""
        return ListProjects(
            principal=caller,
            page=page,
            name=self.filter,
            sort_by=self.sort_by,
            descending=self.order == "desc",
        )


class FeedbackLabelRequest(Body):
    """A value to choose from."""

    value: str = Field(max_length=LONGEST_NAME)
    sentiment: Sentiment | None = None


class FeedbackTypeRequest(Body):
    """A kind of feedback to add, or to add labels to."""

    type: str = Field(min_length=1, max_length=LONGEST_NAME)
    kind: FeedbackClass | None = Field(
        None, alias="class", description="Absent: what it is; of a new type, `select` if it has values, else `text`."
    )
    values: list[FeedbackLabelRequest] = Field([], max_length=MOST_FEEDBACK_LABELS)

    def definition(self) -> FeedbackType:
        """As the platform takes it."""
        labels = [FeedbackLabel(value=label.value, sentiment=label.sentiment) for label in self.values]
        return FeedbackType(type=self.type, kind=self.kind, labels=labels)


class CreateProjectRequest(Body):
    """A project to make."""

    name: Name
    directory_id: Directory | None = Field(None, description="Kept with the project; there are no directories.")
    feedback_types: list[FeedbackTypeRequest] = Field(
        [], max_length=MOST_FEEDBACK_TYPES, description="Beside those that every project has."
    )


class UpdateProjectRequest(Body):
    """What to change. Authenticator that name the project must use its new name from then on."""

    name: Name | None = None
    active_config_id: str | None = Field(None, description="Deployed to the default environment.")
    directory_id: Directory | None = Field(None, description="Kept with the project; there are no directories.")


class CategoricalFeedbackLabel(BaseModel):
    """A value to choose from."""

    value: str
    sentiment: Sentiment


class FeedbackTypeModel(BaseModel):
    """A kind of feedback of a project."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    type: str
    kind: FeedbackClass | None = Field(alias="class")
    values: list[CategoricalFeedbackLabel] | None
    """Null where there is nothing to choose from."""


class ProjectUserResponse(BaseModel):
    """A member of the organisation: all of them reach every project."""

    id: str
    email_address: str
    full_name: str | None


class ProjectResponse(BaseModel):
    """A project with what is set in it."""

    id: str
    name: str
    active_config: ProjectConfigResponse | None
    users: list[ProjectUserResponse]
    data_count: int
    feedback_types: list[FeedbackTypeModel]
    team_id: str
    config_type: Literal["model", "tool"] | None
    active_evaluators: list[dict[str, str]] = []
    directory_id: str | None
    created_at: datetime
    updated_at: datetime


class GetModelConfigResponse(ProjectConfigResponse):
    """The config that calls in an environment use."""

    environment_id: str


def feedback_type_response(found: FeedbackType) -> FeedbackTypeModel:
    """A kind of feedback as clients read it."""
    labels = [
        CategoricalFeedbackLabel(value=label.value, sentiment=label.sentiment or "unset") for label in found.labels
    ]
    return FeedbackTypeModel(
        type=found.type, kind=found.kind, values=labels if found.kind in ("select", "multi_select") else None
    )


def project_config_response(project: Project, version: ConfigVersion, use: ConfigUse | None) -> ProjectConfigResponse:
    """A version in its project. One that was never used was last used when it was made."""
    return ProjectConfigResponse(
        project_id=project.id,
        project_name=project.name,
        created_at=version.created_at,
        updated_at=version.created_at,
        last_used=(use and use.last_used) or version.created_at,
        num_datapoints=use.logs if use else 0,
        config=config_response(version.id, version.config),
    )


def active_config_response(active: Active, use: ConfigUse | None) -> GetModelConfigResponse:
    """The same, and where."""
    fields = project_config_response(active.project, active.version, use)
    return GetModelConfigResponse(**dict(fields), environment_id=active.environment.id)


def project_response(organisation: str, found: ProjectDetails, members: list[Member], uses: Uses) -> ProjectResponse:
    """A project together with what authz and logging know."""
    project, active = found.project, found.active
    use = uses.projects.get(project.id)
    return ProjectResponse(
        id=project.id,
        name=project.name,
        active_config=active and project_config_response(project, active, uses.configs.get(active.id)),
        users=[
            ProjectUserResponse(id=member.user_id, email_address=member.email, full_name=member.full_name)
            for member in members
        ],
        data_count=use.logs if use else 0,
        feedback_types=[feedback_type_response(one) for one in found.feedback_types],
        team_id=organisation,
        config_type=project.config_type,
        directory_id=project.directory_id,
        created_at=project.created_at,
        updated_at=project.updated_at,
    )
