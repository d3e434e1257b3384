"""Messages and values owned by `generation`: configs as `.prompt` files (docs/architecture/prompt-files.md)."""

from typing import ClassVar

from shared.contracts.generation.projects import ModelConfig
from shared.contracts.message import Query, SystemQuery
from shared.contracts.permissions import EDIT_PROMPTS, Permission
from shared.contracts.value import Value


class PromptFile(Value):
    """The text of a `.prompt` file."""

    text: str


class SerializePrompt(SystemQuery[PromptFile]):
    """Return a config as a `.prompt` file."""

    subject: ClassVar[str] = "generation.serialize_prompt"

    config: ModelConfig


class UnsavedConfig(Value):
    """A config that belongs to no project."""

    id: str
    """`config_…`, derived from the organisation and the content: equal configs have equal ids."""
    config: ModelConfig


class DeserializePrompt(Query[UnsavedConfig]):
    """Return the config in a `.prompt` file; nothing is stored. Raises Invalid with the line and the remedy."""

    subject: ClassVar[str] = "generation.deserialize_prompt"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS

    text: str
