"""The model list of the console."""

from pydantic import BaseModel, Field

from shared.contracts.providers import ModelInfo


class ModelsResponse(BaseModel):
    """Every model something is known of; a config may name others, too."""

    models: list[ModelInfo] = Field(description="By provider; prices in USD per million tokens, null where unknown.")
