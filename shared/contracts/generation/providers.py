"""Messages and values owned by `generation`: the model catalogue."""

from datetime import date
from typing import ClassVar, Literal

from shared.contracts.generation.projects import Provider
from shared.contracts.message import SystemQuery
from shared.contracts.value import Value


class ModelInfo(Value):
    """A row of the model catalogue. A field is None where the source does not say."""

    provider: Provider
    name: str
    aliases: list[str] = []
    kind: Literal["chat", "complete", "any"]
    """`any`: both chat and complete."""
    context_tokens: int | None = None
    """Largest number of tokens of prompt and answer together."""
    output_tokens: int | None = None
    """Largest number of tokens of an answer."""
    prompt_usd: float | None = None
    """USD per million prompt tokens."""
    output_usd: float | None = None
    """USD per million output tokens."""
    cached_usd: float | None = None
    """Of prompt tokens read from the provider's cache."""
    cache_write_usd: float | None = None
    """Of prompt tokens written to the provider's cache."""
    long_prompt_tokens: int | None = None
    """Prompts with more tokens are charged at the two prices below."""
    long_prompt_usd: float | None = None
    long_output_usd: float | None = None
    lacks: list[str] = []
    """Features it does not have: "tools", "images", "JSON mode" …"""
    retired: date | None = None
    """When its provider retires it; it may lie ahead."""
    replacement: str | None = None
    """The model its provider recommends instead."""
    source: str
    """URL of the page the figures are from."""
    checked: date
    """When the figures were last compared with the page."""


class Models(Value):
    """The catalogue, by provider and in the order of its files (newest first)."""

    models: list[ModelInfo]


class ListModels(SystemQuery[Models]):
    """Return the catalogue. Models that are not in it can be called, too."""

    subject: ClassVar[str] = "generation.list_models"
