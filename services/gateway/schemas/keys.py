"""API keys, as people manage them."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from services.gateway.schemas.bodies import StrictBody
from shared.contracts.access import Key, NewKey
from shared.contracts.principal import Role


class CreateKeyRequest(StrictBody):
    """A key to make."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    role: Role | None = Field(None, description="At most your own. Developer if absent, or yours if that is less.")


class NewKeyResponse(BaseModel):
    """The only answer that ever has the key itself."""

    id: str
    name: str
    api_key: str
    tail: str
    role: Role


class KeyResponse(BaseModel):
    """A key, known by its last characters."""

    id: str
    name: str
    tail: str
    role: Role
    creator: str
    created_at: datetime
    revoked_at: datetime | None


def new_key_response(key: NewKey) -> NewKeyResponse:
    """What the person who made the key reads, once."""
    return NewKeyResponse(id=key.id, name=key.name, api_key=key.secret, tail=key.tail, role=key.role)


def key_response(key: Key) -> KeyResponse:
    """What everyone else may read."""
    return KeyResponse(**key.model_dump(exclude={"creator_id"}))
