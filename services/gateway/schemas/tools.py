"""Request and response models of the organisation's tools."""

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, field_validator

from services.gateway.schemas.bodies import Fields, StrictRequestBody
from shared.contracts.generation.tools import (
    GetApi,
    Google,
    JsonSchema,
    Pinecone,
    Snippet,
    Tool,
    ToolName,
    ToolSettings,
)
from shared.contracts.value import Array

SecretName = Literal["key", "serpapi_key", "pinecone_key", "openai_key"]
Secret = Annotated[str, Field(pattern=r"^([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?$", max_length=1000)]
"""Visible ASCII, because it is sent in an HTTP header. Empty removes the secret."""
_SECRETS_DESCRIPTION = (
    "By name: `key` (get_api), `serpapi_key` (google), `pinecone_key` and `openai_key` (pinecone). Never shown again."
)
_FIELDS_BY_KIND = {
    get_args(kind.model_fields["kind"].annotation)[0]: frozenset(kind.model_fields)
    for kind in (Snippet, JsonSchema, GetApi, Google, Pinecone)
}


class CreateToolRequest(StrictRequestBody):
    """A tool to create."""

    name: ToolName
    settings: ToolSettings
    secrets: Fields[SecretName, Secret] = Field({}, description=_SECRETS_DESCRIPTION)

    @field_validator("settings", mode="before")
    @classmethod
    def _reject_unknown_fields(cls, value: Any) -> Any:  # noqa: ANN401 - anything may arrive
        """Raise an error for unknown fields: bus messages ignore them, so a mistyped one would have no effect."""
        fields = _FIELDS_BY_KIND.get(str(value.get("kind"))) if isinstance(value, dict) else None
        if fields is not None and (unknown := sorted(set(value) - fields)):
            raise ValueError(f"a {value['kind']} tool has no {', '.join(unknown)}; it has {', '.join(sorted(fields))}")
        return value


class UpdateToolRequest(StrictRequestBody):
    """The fields to change; absent ones stay."""

    name: ToolName | None = None
    settings: dict[str, Any] = Field({}, description="Fields with their new values; the kind of a tool cannot change.")
    secrets: Fields[SecretName, Secret] = Field({}, description=_SECRETS_DESCRIPTION + " Those not named stay.")


class RunToolRequest(StrictRequestBody):
    """The arguments of one call."""

    arguments: Array[str | int | float] = Field([], description="In the order of the signature.")


class ToolResponse(BaseModel):
    """A tool, with the last four characters of each secret."""

    id: str
    name: str
    signature: str = Field(description="How a template calls it; of a JSON schema, what a model may fill in.")
    settings: ToolSettings
    secrets: dict[str, str] = Field(description="Which are set, and the last four characters of each.")
    created_at: datetime
    updated_at: datetime


def tool_response(tool: Tool) -> ToolResponse:
    """Return the response model of a tool."""
    return ToolResponse.model_validate(tool.model_dump())
