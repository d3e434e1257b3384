"""Request and response models of API keys."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from services.gateway.schemas.bodies import StrictRequestBody, to_utc
from shared.contracts.access.keys import CreateKey, Key, NewKey
from shared.contracts.principal import Principal, Role
from shared.contracts.value import Array


class CreateKeyRequest(StrictRequestBody):
    """An API key to create."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    role: Role | None = Field(None, description="At most your own. Developer if absent, or yours if that is less.")
    expires_at: datetime | None = Field(
        None, description="From then on it is refused; UTC if no time zone is named. Absent: it does not expire."
    )

    project_ids: Annotated[Array[Annotated[str, Field(max_length=100)]], Field(min_length=1, max_length=100)] | None = (
        Field(None, description="The key reaches only these projects. Absent: all of the organisation.")
    )

    def command(self, caller: Principal) -> CreateKey:
        """Return the command for authz. Raises Invalid (no time in UTC)."""
        expires_at = None if self.expires_at is None else to_utc("expires_at", self.expires_at)
        projects = None if self.project_ids is None else list(dict.fromkeys(self.project_ids))
        return CreateKey(principal=caller, name=self.name, role=self.role, expires_at=expires_at, projects=projects)


class NewKeyResponse(BaseModel):
    """A created API key: the only response that contains the key itself."""

    id: str
    name: str
    api_key: str
    tail: str
    role: Role
    expires_at: datetime | None
    project_ids: list[str] | None = Field(description="That it is limited to. Absent or null: none, it reaches all.")


class KeyResponse(BaseModel):
    """An API key, identified to people by its last characters."""

    id: str
    name: str
    tail: str
    role: Role
    creator: str
    created_at: datetime
    revoked_at: datetime | None
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To half a minute.")
    project_ids: list[str] | None = Field(description="That it is limited to. Absent or null: none, it reaches all.")


def new_key_response(key: NewKey) -> NewKeyResponse:
    """Return the response model of a created key, the secret included."""
    return NewKeyResponse(
        id=key.id,
        name=key.name,
        api_key=key.secret,
        tail=key.tail,
        role=key.role,
        expires_at=key.expires_at,
        project_ids=key.projects,
    )


def key_response(key: Key) -> KeyResponse:
    """Return the response model of a key, without its secret."""
    return KeyResponse(**key.model_dump(exclude={"creator_id", "projects"}), project_ids=key.projects)
