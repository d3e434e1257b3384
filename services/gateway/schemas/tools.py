"""The organisation's tools: as sent, and as answered."""

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, field_validator

from services.gateway.schemas.bodies import StrictBody
from shared.contracts.tools import GetApi, Google, JsonSchema, Pinecone, Snippet, Tool, ToolName, ToolSettings

SecretName = Literal["key", "serpapi_key", "pinecone_key", "openai_key"]
Secret = Annotated[str, Field(pattern=r"^([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?$", max_length=1000)]
"""Goes into an HTTP header: visible ASCII. Empty: there is none."""
_SECRETS = (
    "By name: `key` (get_api), `serpapi_key` (google), `pinecone_key` and `openai_key` (pinecone). Never shown again."
)
_FIELDS = {
    get_args(kind.model_fields["kind"].annotation)[0]: frozenset(kind.model_fields)
    for kind in (Snippet, JsonSchema, GetApi, Google, Pinecone)
}


class CreateToolRequest(StrictBody):
    """A tool to make."""

    name: ToolName
    settings: ToolSettings
    secrets: dict[SecretName, Secret] = Field({}, description=_SECRETS)

    @field_validator("settings", mode="before")
    @classmethod
    def _nothing_unknown(cls, value: Any) -> Any:  # noqa: ANN401 - anything may arrive
        """A mistyped field would be ignored on the bus; here it is told."""
        known = _FIELDS.get(str(value.get("kind"))) if isinstance(value, dict) else None
        if known is not None and (unknown := sorted(set(value) - known)):
            raise ValueError(f"a {value['kind']} tool has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        return value


class UpdateToolRequest(StrictBody):
    """What to change; everything else stays."""

    name: ToolName | None = None
    settings: dict[str, Any] = Field({}, description="Fields with their new values; a tool stays of its kind.")
    secrets: dict[SecretName, Secret] = Field({}, description=_SECRETS + " Those not named stay.")


class RunToolRequest(StrictBody):
    """One call."""

    arguments: list[str | int | float] = Field([], description="In the order of the signature.")


class ToolResponse(BaseModel):
    """A tool. Of its secrets only the ends are known."""

    id: str
    name: str
    signature: str = Field(description="How a template calls it; of a JSON schema, what a model may fill in.")
    settings: ToolSettings
    secrets: dict[str, str] = Field(description="Which are set, and the last four characters of each.")
    created_at: datetime
    updated_at: datetime


def tool_response(tool: Tool) -> ToolResponse:
    """A tool as people read it."""
    return ToolResponse.model_validate(tool.model_dump())
