"""Request and response models of projects and their feedback types (behaviour.md §7, §8)."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.gateway.schemas.bodies import MAX_PAGE_NUMBER, MAX_PAGE_SIZE, RequestBody
from services.gateway.schemas.config_responses import ProjectConfigResponse, project_config_response
from shared.contracts.access.members import Member
from shared.contracts.generation.deployments import ActiveConfig
from shared.contracts.generation.projects import (
    MAX_FEEDBACK_LABELS,
    MAX_FEEDBACK_TYPES,
    MAX_NAME_CHARACTERS,
    ConfigType,
    FeedbackClass,
    FeedbackLabel,
    FeedbackType,
    ListProjects,
    ProjectDetails,
    Sentiment,
)
from shared.contracts.logs import ConfigUse, Page, Uses
from shared.contracts.principal import Principal
from shared.contracts.value import Array

ProjectName = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)]
DirectoryId = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)]


class ProjectsQuery(BaseModel):
    """The query parameters of `GET /projects`."""

    page: int = Field(0, ge=0, le=MAX_PAGE_NUMBER, description="From 0.")
    size: int = Field(10, ge=1, le=MAX_PAGE_SIZE)
    filter: str | None = Field(None, max_length=1000, description="Part of the name, case-insensitive.")
    user_filter: str | None = Field(
        None, max_length=1000, description="Part of a member's email or name, case-insensitive."
    )
    sort_by: Literal["created_at", "updated_at", "name"] = "created_at"
    order: Literal["asc", "desc"] = "desc"

    def matches_a_member(self, members: list[Member]) -> bool:
        """Return whether `user_filter` matches a member, and with it every project: all members are in each."""
        text = (self.user_filter or "").lower()
        return any(text in value.lower() for one in members for value in (one.email, one.full_name or ""))

    def to_list_projects(self, caller: Principal, page: Page) -> ListProjects:
        """Return the query for generation."""
        return ListProjects(
            principal=caller,
            page=page,
            name=self.filter,
            sort_by=self.sort_by,
            descending=self.order == "desc",
        )


class FeedbackLabelRequest(RequestBody):
    """A label of a feedback type."""

    value: str = Field(max_length=MAX_NAME_CHARACTERS)
    sentiment: Sentiment | None = None


class FeedbackTypeRequest(RequestBody):
    """A feedback type to add, or to add labels to."""

    type: str = Field(min_length=1, max_length=MAX_NAME_CHARACTERS)
    kind: FeedbackClass | None = Field(
        None, alias="class", description="Absent: unchanged; of a new type, `select` if it has values, else `text`."
    )
    values: Array[FeedbackLabelRequest] = Field([], max_length=MAX_FEEDBACK_LABELS)

    def to_feedback_type(self) -> FeedbackType:
        """Return the feedback type as it is sent to generation."""
        labels = [FeedbackLabel(value=label.value, sentiment=label.sentiment) for label in self.values]
        return FeedbackType(type=self.type, kind=self.kind, labels=labels)


class CreateProjectRequest(RequestBody):
    """A project to create."""

    name: ProjectName
    directory_id: DirectoryId | None = Field(None, description="Stored with the project; there are no directories.")
    feedback_types: Array[FeedbackTypeRequest] = Field(
        [], max_length=MAX_FEEDBACK_TYPES, description="In addition to those that every project has."
    )


class PositiveLabel(RequestBody):
    """A label of a feedback type."""

    type: str
    value: str


class UpdateProjectRequest(RequestBody):
    """The fields to change; absent ones stay. Callers that name the project must use its new name from then on."""

    name: ProjectName | None = None
    active_config_id: str | None = Field(None, description="Deployed to the default environment.")
    directory_id: DirectoryId | None = Field(None, description="Stored with the project; there are no directories.")
    positive_labels: Array[PositiveLabel] | None = Field(
        None, description="All labels whose sentiment is positive; from clients up to 0.7.0."
    )
    active_experiment_id: str | None = Field(None, description="Always refused; from clients up to 0.7.0.")

    @model_validator(mode="after")
    def _refuse_experiments(self) -> "UpdateProjectRequest":
        if self.active_experiment_id is not None:
            raise ValueError("active_experiment_id: there are no experiments here; send active_config_id")
        return self

    def positive_feedback_types(self, existing: list[FeedbackType]) -> list[FeedbackType]:
        """Return what `positive_labels` changes of the existing types: the sentiments of labels."""
        sentiments: dict[str, dict[str, Sentiment]] = {
            feedback_type.type: {
                label.value: "unset" for label in feedback_type.labels if label.sentiment == "positive"
            }
            for feedback_type in existing
        }
        for label in self.positive_labels or ():
            sentiments.setdefault(label.type, {})[label.value] = "positive"
        return [
            FeedbackType(type=name, labels=[FeedbackLabel(value=value, sentiment=it) for value, it in labels.items()])
            for name, labels in sentiments.items()
            if labels
        ]


class CategoricalFeedbackLabel(BaseModel):
    """A label of a feedback type."""

    value: str
    sentiment: Sentiment


class FeedbackTypeModel(BaseModel):
    """A feedback type of a project."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    type: str
    kind: FeedbackClass | None = Field(alias="class")
    values: list[CategoricalFeedbackLabel] | None
    """The labels; null for classes that have none, text and number."""


class ProjectUserResponse(BaseModel):
    """A member of the organisation; all of them have access to every project."""

    id: str
    email_address: str
    full_name: str | None


class ProjectResponse(BaseModel):
    """A project with its active config, users and feedback types."""

    id: str
    name: str
    active_config: ProjectConfigResponse | None
    users: list[ProjectUserResponse]
    data_count: int
    feedback_types: list[FeedbackTypeModel]
    team_id: str
    config_type: ConfigType | None
    active_evaluators: list[dict[str, str]] = []
    directory_id: str | None
    created_at: datetime
    updated_at: datetime


class GetModelConfigResponse(ProjectConfigResponse):
    """The config deployed in an environment."""

    environment_id: str


def feedback_type_response(feedback_type: FeedbackType) -> FeedbackTypeModel:
    """Return the response model of a feedback type."""
    labels = [
        CategoricalFeedbackLabel(value=label.value, sentiment=label.sentiment or "unset")
        for label in feedback_type.labels
    ]
    return FeedbackTypeModel(
        type=feedback_type.type,
        kind=feedback_type.kind,
        values=labels if feedback_type.kind in ("select", "multi_select") else None,
    )


def active_config_response(active: ActiveConfig, use: ConfigUse | None) -> GetModelConfigResponse:
    """Return the response model of the config deployed in an environment."""
    fields = project_config_response(active.project, active.version, use)
    return GetModelConfigResponse(**dict(fields), environment_id=active.environment.id)


def project_response(organisation: str, details: ProjectDetails, members: list[Member], uses: Uses) -> ProjectResponse:
    """Return the response model of a project: details of generation, members of authz, uses of logging."""
    project, active = details.project, details.active
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
        feedback_types=[feedback_type_response(one) for one in details.feedback_types],
        team_id=organisation,
        config_type=project.config_type,
        directory_id=project.directory_id,
        created_at=project.created_at,
        updated_at=project.updated_at,
    )
