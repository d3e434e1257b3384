"""Owned by `generation`: what is known of providers and their models."""

from datetime import date
from typing import ClassVar, Literal

from shared.contracts.generation.projects import Provider
from shared.contracts.message import SystemQuery
from shared.contracts.value import Value


class ModelInfo(Value):
    """A row of the model catalogue. None stands for what no source we know says."""

    provider: Provider
    name: str
    aliases: list[str] = []
    kind: Literal["chat", "complete", "any"]
    """`any`: it chats and completes."""
    context_tokens: int | None = None
    """Prompt and answer together."""
    output_tokens: int | None = None
    """The longest answer."""
    prompt_usd: float | None = None
    """USD per million tokens."""
    output_usd: float | None = None
    """USD per million tokens."""
    long_prompt_tokens: int | None = None
    """With more tokens than this in the prompt, the two prices below are charged."""
    long_prompt_usd: float | None = None
    long_output_usd: float | None = None
    lacks: list[str] = []
    """What it cannot do, in words: "tools", "images", "JSON mode" …"""
    retired: date | None = None
    """When its provider stops answering; it may lie ahead."""
    replacement: str | None = None
    """What its provider recommends instead."""
    source: str
    """Address of the page the figures are from."""
    checked: date
    """When they were last compared with it."""


class Models(Value):
    """The catalogue, by provider and in the order of its files: newest first."""

    models: list[ModelInfo]


class ListModels(SystemQuery[Models]):
    """Every model something is known of. Others can be called, too."""

    subject: ClassVar[str] = "generation.list_models"
