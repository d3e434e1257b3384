"""Response model of the model list."""

from pydantic import BaseModel, Field

from shared.contracts.generation.providers import ModelInfo


class ModelsResponse(BaseModel):
    """Every model in the catalogue; a config may also name models that are not in it."""

    models: list[ModelInfo] = Field(description="By provider; prices in USD per million tokens, null where unknown.")
