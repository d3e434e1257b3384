"""Owned by `generation`: calling a model, whole or as a stream."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from shared.contracts.chat import ChatMessage, FinishReason, ResponseFormat, ToolCall, ToolChoice, ToolResult, Usage
from shared.contracts.generation.projects import ModelConfig, ProjectRef
from shared.contracts.message import Command, Event
from shared.contracts.value import Value


class Sample(Value):
    """One generation of the `num_samples` asked for; each is a log of its own."""

    id: str
    """Of its log."""
    index: int
    output: str = ""
    """`raw_output` without the white space around it."""
    raw_output: str = ""
    """The provider's text, untouched; `""` when it gave none."""
    finish_reason: FinishReason | None = None
    """None on every event of a stream but the sample's last."""
    tool_calls: list[ToolCall] | None = None


class Generation(Value):
    """What a call gave."""

    project_id: str | None
    session_id: str | None
    config_id: str
    samples: list[Sample]
    messages: list[ChatMessage] | None = None
    """Chat: everything sent to the model, template first."""
    tool_results: list[ToolResult] = []
    usage: Usage = Usage()
    provider_responses: list[Any] = []
    provider_request: dict[str, Any] = {}


class Chunk(Value):
    """One event of a streamed call. `raw_output` of the sample is the increment since its last event."""

    project_id: str | None
    session_id: str | None
    config_id: str
    sample: Sample
    tool_results: list[ToolResult] = []


class Generate(Command[Generation]):
    """What chats and completions have in common. Answered with a `Generation`, or with `Chunk`s when `stream`."""

    user: str | None = None
    """The caller's end user: forwarded to the provider and kept on the log."""
    project: ProjectRef
    config: ModelConfig | None = None
    config_id: str | None = None
    environment: str | None = None
    deployed: bool = False
    """Use what is deployed in `environment` (None: the default one). Else `config` or `config_id` says it."""
    may_deploy: bool = False
    """From senders that did not know principals: whether theirs may change deployments."""
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
    """Caller-owned strings the ids above were derived from: `session`, `parent`."""
    log_ids: list[str]
    """One a sample, minted by the sender, so that a repeat writes the same logs."""
    sealed_keys: str | None = Field(default=None, repr=False)
    """`provider_api_keys` of this request, encrypted (shared/encryption.py)."""


class Chat(Generate):
    """Call a chat model."""

    subject: ClassVar[str] = "generation.chat"

    messages: list[ChatMessage]
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None


class Complete(Generate):
    """Call a completion model (or a chat model with the prompt as one user message)."""

    subject: ClassVar[str] = "generation.complete"

    logprobs: int | None = None
    suffix: str | None = None


class GenerationFailed(Event):
    """A call to a model ended in an error; its log has the details."""

    noun: ClassVar[str] = "generation"
    happened: ClassVar[str] = "failed"

    project_id: str | None
    log_ids: list[str]
    status: int
    origin: str
    kind: Literal["chat", "complete"]
