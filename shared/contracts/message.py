"""The base classes of messages. The class a message inherits decides its transport.

Query        core NATS request/reply; changes nothing, may be repeated
Command      core NATS request/reply; its handler saves, publishes events, then replies
             Both name the permission that their principal needs.
SystemQuery, SystemCommand  as these two, without an organisation or principal
Job          JetStream work queue `JOBS`; one worker at a time, safe to run twice
Event        JetStream stream `EVENTS`; past tense, any number of readers
"""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, model_validator

from shared.contracts.audit_actions import AuditAction
from shared.contracts.permissions import Permission
from shared.contracts.principal import Actor, Principal, Service
from shared.contracts.value import Value

R = TypeVar("R", bound=BaseModel)


def _actor_from_by(value: object) -> object:
    """Return what `by` held in messages without a principal, an email address or the fields of `Actor`, as fields."""
    return {"email": value} if isinstance(value, str) else value


def _organisation_of_principal(validated: dict[str, Any]) -> str | None:
    principal: Principal | None = validated.get("principal")
    return None if principal is None else principal.organisation


class Envelope(Value):
    """The fields of every query, command and job: the organisation it is for, and the principal it is sent for."""

    permission: ClassVar[Permission | None] = None
    """What the principal of a query or command needs; the service that answers refuses it else. None: no role is
    enough, only `services` may send it."""
    services: ClassVar[frozenset[Service]] = frozenset()
    """The services that may send it for an organisation on nobody's request."""

    limited: ClassVar[str | None] = None
    """How it is answered to a principal whose key is limited to projects. None: it is refused. Else the name of the
    field with the project id or ids, which must be among them; "": its handler limits what it reads and changes, or it
    has nothing of a project."""

    principal: Annotated[Principal | None, BeforeValidator(_actor_from_by)] = Field(
        default=None, validation_alias=AliasChoices("principal", "by")
    )
    """None only from earlier versions, which had no principals; those that sent `by` are still read."""
    organisation: str = Field(default_factory=_organisation_of_principal, validate_default=True, min_length=1)
    """Defaults to the principal's."""

    @model_validator(mode="after")
    def _is_of_one_organisation(self) -> Self:
        if self.principal is not None and self.principal.organisation not in {"", self.organisation}:
            raise ValueError("the principal acts for another organisation")
        return self

    @property
    def actor(self) -> Actor | None:
        """Return the actor of the principal, for histories and events."""
        return None if self.principal is None else self.principal.actor


class Request(Value, Generic[R]):
    """A message that one service answers with `R` or a `Failure`."""

    subject: ClassVar[str] = ""
    """`<owner>.<what>`; the owner is the service that answers."""

    @classmethod
    def reply_type(cls) -> type[R]:
        """Return the class of the answer, `R`. Raises TypeError if this class inherits no `Query[R]` or the like."""
        for base in cls.__mro__:
            metadata: dict[str, Any] = base.__dict__.get("__pydantic_generic_metadata__", {})
            for argument in metadata.get("args", ()):
                if isinstance(argument, type):
                    return argument
        raise TypeError(f"{cls.__name__} does not say what answers it: inherit Query[Answer] or Command[Answer]")


class SystemQuery(Request[R], Generic[R]):
    """A query that belongs to no organisation: who has this key, how is a service."""


class SystemCommand(Request[R], Generic[R]):
    """A command for which nobody is authenticated: sign-in, set-up, and what only the operator's user may publish.

    It has in it what proves that its sender may: a password, a token. Ids are minted by the sender, as in `Command`.
    """


class Query(Envelope, Request[R], Generic[R]):
    """A request that changes nothing; it may be repeated."""


class Command(Envelope, Request[R], Generic[R]):
    """A request for a change. Ids are minted by the sender, so that a repeat is the same change.

    Each class says either which entries of the audit log its handler writes, or why it writes none.
    """

    audited_as: ClassVar[tuple[AuditAction, ...]] = ()
    """What it may change, as the audit log has it (shared/audit.py)."""
    not_audited: ClassVar[str] = ""
    """Why the audit log has nothing of it."""


class Job(Envelope):
    """Work that no caller waits for; at most 1 MiB, so it names what to work on and does not carry it.

    Its handler must be safe to run twice, at the same time too: a job whose worker was killed, or cut off for a while,
    is redelivered to another.
    """

    subject: ClassVar[str] = ""
    """`jobs.<owner>.<what>`; the owner is the service that does the work."""

    id: str
    """Minted or derived by the sender, unique among all jobs: of the jobs with one id enqueued within 15 minutes, the
    first is kept."""


class Event(Value):
    """Something that happened. Published on `events.<organisation>.<noun>.<past participle>`."""

    noun: ClassVar[str] = ""
    past_participle: ClassVar[str] = ""

    id: str | None = None
    """The same for every copy of one event; set by `Bus.publish_event`. None only from earlier versions."""
    occurred_at: datetime | None = None
    """When it happened; set by `Bus.publish_event` if it is None."""
    organisation: str
    actor: Actor | None = None
    """Who caused it. None: nobody, or several at once."""

    @property
    def subject(self) -> str:
        """Return the subject this event is published on."""
        return f"events.{self.organisation}.{self.noun}.{self.past_participle}"

    @classmethod
    def wildcard_subject(cls) -> str:
        """Return the subject that matches this event of every organisation."""
        return f"events.*.{cls.noun}.{cls.past_participle}"


class Done(Value):
    """The empty answer of a command."""


class Failure(Value):
    """The answer when the handler raised a `Problem`."""

    status: int
    """HTTP status of the problem's kind."""
    message: str
    origin: str
    """`Humanloop` for the platform, else the provider's display name."""
    retry_after_seconds: float | None = None
