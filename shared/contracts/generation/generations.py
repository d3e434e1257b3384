"""Messages and values owned by `generation`: calling a model, streamed or not."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from shared.contracts.audit_actions import AuditAction
from shared.contracts.chat import ChatMessage, FinishReason, ResponseFormat, ToolCall, ToolChoice, ToolResult, Usage
from shared.contracts.generation.projects import ModelConfig, ProjectRef
from shared.contracts.message import Command, Event
from shared.contracts.permissions import EDIT_PROMPTS, Permission
from shared.contracts.principal import Service
from shared.contracts.value import Value


class Sample(Value):
    """One of the `num_samples` generations of a call; each is a log of its own."""

    id: str
    """Id of its log, `data_…`."""
    index: int
    output: str = ""
    """`raw_output` without surrounding white space."""
    raw_output: str = ""
    """The provider's text, untouched; `""` when it gave none."""
    finish_reason: FinishReason | None = None
    """In a stream, None but on the last chunk of the sample."""
    tool_calls: list[ToolCall] | None = None


class Generation(Value):
    """The result of a call, all samples included."""

    project_id: str | None
    session_id: str | None
    config_id: str
    samples: list[Sample]
    messages: list[ChatMessage] | None = None
    """For a chat, everything sent to the model, the template first."""
    tool_results: list[ToolResult] = []
    usage: Usage = Usage()
    provider_responses: list[Any] = []
    provider_request: dict[str, Any] = {}


class Chunk(Value):
    """One piece of a streamed call. `raw_output` of the sample is the text since its previous chunk."""

    project_id: str | None
    session_id: str | None
    config_id: str
    sample: Sample
    tool_results: list[ToolResult] = []


class Generate(Command[Generation]):
    """The common fields of `Chat` and `Complete`. Answered with a `Generation`, after `Chunk`s if `stream` is set.

    Raises NotFound, Invalid, and the provider's problem if every sample failed.
    """

    permission: ClassVar[Permission | None] = EDIT_PROMPTS
    limited: ClassVar[str | None] = ""
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("project.created", "deployment.deployed")
    services: ClassVar[frozenset[Service]] = frozenset({"evaluation"})

    user: str | None = None
    """The caller's end user, sent to the provider and kept on the log."""
    project: ProjectRef
    config: ModelConfig | None = None
    config_id: str | None = None
    environment: str | None = None
    deployed: bool = False
    """Use the config deployed in `environment` (None: the default one). Else `config` or `config_id` is given."""
    inputs: dict[str, Any] = {}
    num_samples: int = 1
    stream: bool = False
    seed: int | None = None
    source: str | None = None
    metadata: dict[str, Any] | None = None
    save: bool = True
    source_datapoint_id: str | None = None
    session_id: str | None = None
    parent_id: str | None = None
    reference_ids: dict[str, str] = {}
    """The caller's references that `session_id` and `parent_id` were derived from, under `session` and `parent`."""
    log_ids: list[str]
    """One for each sample, minted by the sender, so that a repeat writes the same logs."""
    sealed_keys: str | None = Field(default=None, repr=False)
    """`provider_api_keys` of this request, encrypted (shared/encryption.py)."""


class Chat(Generate):
    """Call a chat model."""

    subject: ClassVar[str] = "generation.chat"

    messages: list[ChatMessage]
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None


class Complete(Generate):
    """Call a completion model, or a chat model with the prompt as one user message."""

    subject: ClassVar[str] = "generation.complete"

    logprobs: int | None = None
    suffix: str | None = None


class GenerationFailed(Event):
    """A call to a model ended in an error; its logs have the details."""

    noun: ClassVar[str] = "generation"
    past_participle: ClassVar[str] = "failed"

    project_id: str | None
    log_ids: list[str]
    status: int
    """HTTP status of the error."""
    origin: str
    """`Humanloop` for the platform, else the provider's display name."""
    kind: Literal["chat", "complete"]
