"""Request and response models of model redirects and stored provider keys."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from services.gateway.schemas.bodies import StrictRequestBody
from services.gateway.schemas.generations import ProviderKey
from shared.contracts.generation.routing import SetRedirect, Target
from shared.contracts.principal import Principal
from shared.contracts.value import Array


class RedirectRequest(StrictRequestBody):
    """The model that serves calls for another, and its fallbacks."""

    asked: Target = Field(description="The model that configs name.")
    served: Target | None = Field(None, description="The model that serves the call instead; absent: the model itself.")
    fallbacks: Array[Target] = Field([], description="Called in this order when the served one fails.")

    def command(self, caller: Principal) -> SetRedirect:
        """Return the command for generation."""
        return SetRedirect(
            principal=caller,
            asked=self.asked,
            served=self.served,
            fallbacks=self.fallbacks,
        )


class ProviderKeyRequest(StrictRequestBody):
    """A provider key to store."""

    key: Annotated[ProviderKey, Field(min_length=1, max_length=2_000, repr=False)]


class ProviderKeyResponse(BaseModel):
    """A stored provider key, identified to people by its last characters."""

    name: str
    tail: str
    changed_at: datetime
    changed_by: str
