"""Request and response models of API keys."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from services.gateway.schemas.bodies import StrictRequestBody
from shared.contracts.access import Key, NewKey
from shared.contracts.principal import Role


class CreateKeyRequest(StrictRequestBody):
    """An API key to create."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    role: Role | None = Field(None, description="At most your own. Developer if absent, or yours if that is less.")


class NewKeyResponse(BaseModel):
    """A created API key: the only response that contains the key itself."""

    id: str
    name: str
    api_key: str
    tail: str
    role: Role


class KeyResponse(BaseModel):
    """An API key, identified to people by its last characters."""

    id: str
    name: str
    tail: str
    role: Role
    creator: str
    created_at: datetime
    revoked_at: datetime | None


def new_key_response(key: NewKey) -> NewKeyResponse:
    """Return the response model of a created key, the secret included."""
    return NewKeyResponse(id=key.id, name=key.name, api_key=key.secret, tail=key.tail, role=key.role)


def key_response(key: Key) -> KeyResponse:
    """Return the response model of a key, without its secret."""
    return KeyResponse(**key.model_dump(exclude={"creator_id"}))
