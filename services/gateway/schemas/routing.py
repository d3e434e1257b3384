"""Redirects of models and provider keys, as people manage them."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from services.gateway.schemas.bodies import StrictBody
from services.gateway.schemas.generations import ProviderKey
from shared.contracts.principal import Principal
from shared.contracts.routing import SetRedirect, Target


class RedirectRequest(StrictBody):
    """What happens to calls for a model."""

    asked: Target = Field(description="The model that configs name.")
    served: Target | None = Field(None, description="The one that answers instead; absent: the model itself.")
    fallbacks: list[Target] = Field([], description="Asked in this order when the served one fails.")

    def command(self, caller: Principal) -> SetRedirect:
        """What generation is asked to do."""
        return SetRedirect(
            principal=caller,
            asked=self.asked,
            served=self.served,
            fallbacks=self.fallbacks,
        )


class ProviderKeyRequest(StrictBody):
    """A key to keep."""

    key: Annotated[ProviderKey, Field(min_length=1, max_length=2_000, repr=False)]


class ProviderKeyResponse(BaseModel):
    """A kept key, known by its last characters."""

    name: str
    tail: str
    changed_at: datetime
    changed_by: str
