"""Owned by `generation`: configs as `.prompt` files (docs/architecture/prompt-files.md). Nothing is stored."""

from typing import ClassVar

from shared.contracts.generation.projects import ModelConfig
from shared.contracts.message import Query, SystemQuery
from shared.contracts.value import Value


class PromptFile(Value):
    """The text of a `.prompt` file."""

    text: str


class SerializePrompt(SystemQuery[PromptFile]):
    """A config as a file."""

    subject: ClassVar[str] = "generation.serialize_prompt"

    config: ModelConfig


class UnsavedConfig(Value):
    """A config that is in no project."""

    id: str
    """`config_…`, derived from the organisation and the content: equal configs have equal ids."""
    config: ModelConfig


class DeserializePrompt(Query[UnsavedConfig]):
    """The config a file says.

    Errors: Invalid (names the line of the file and the remedy).
    """

    subject: ClassVar[str] = "generation.deserialize_prompt"

    text: str
