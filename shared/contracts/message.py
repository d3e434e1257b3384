"""The four kinds of message. The base class decides the transport, so nobody chooses twice.

Query    core request/reply, changes nothing, may be retried
Command  core request/reply, one handler: save, announce, reply
Job      JetStream work queue, one worker at a time, safe to run twice
Event    JetStream `EVENTS`, past tense, any number of readers
"""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, model_validator

from shared.contracts.principal import Actor, Principal
from shared.contracts.value import Value

R = TypeVar("R", bound=BaseModel)


def _of_an_email_address(value: object) -> object:
    """Read what `by` was before principals: an email address, or an object with the fields of `Actor`."""
    return {"email": value} if isinstance(value, str) else value


def _organisation_of_principal(validated: dict[str, Any]) -> str | None:
    principal: Principal | None = validated.get("principal")
    return None if principal is None else principal.organisation


class Envelope(Value):
    """What commands, queries and jobs say beside their content: for which organisation, and who wants it."""

    principal: Annotated[Principal | None, BeforeValidator(_of_an_email_address)] = Field(
        default=None, validation_alias=AliasChoices("principal", "by")
    )
    """None only from senders that did not know principals; those that named somebody in `by` are still read."""
    organisation: str = Field(default_factory=_organisation_of_principal, validate_default=True, min_length=1)
    """Left out by the sender, it is the principal's."""

    @model_validator(mode="after")
    def _is_of_one_organisation(self) -> Self:
        if self.principal is not None and self.principal.organisation not in {"", self.organisation}:
            raise ValueError("the principal acts for another organisation")
        return self

    @property
    def actor(self) -> Actor | None:
        """Return who wants it, for histories and events."""
        return None if self.principal is None else self.principal.actor


class Request(Value, Generic[R]):
    """Asked of one service, answered with `R` or a `Failure`."""

    subject: ClassVar[str] = ""
    """`<owner>.<what>`; the owner is the service that answers."""

    @classmethod
    def reply_type(cls) -> type[R]:
        """The class of the answer, as written in `Query[Answer]` or `Command[Answer]`."""
        for base in cls.__mro__:
            metadata: dict[str, Any] = base.__dict__.get("__pydantic_generic_metadata__", {})
            for argument in metadata.get("args", ()):
                if isinstance(argument, type):
                    return argument
        raise TypeError(f"{cls.__name__} does not say what answers it: inherit Query[Answer] or Command[Answer]")


class SystemQuery(Request[R], Generic[R]):
    """A question that concerns no organisation: whose key this is, how a service is."""


class Query(Envelope, Request[R], Generic[R]):
    """A question; asking it twice is harmless."""


class Command(Envelope, Request[R], Generic[R]):
    """A change whose caller waits. Ids are minted by the sender, so a repeat is the same change."""


class Job(Envelope):
    """Work nobody waits for."""

    subject: ClassVar[str] = ""


class Event(Value):
    """A fact. Published on `events.<organisation>.<noun>.<past participle>`."""

    noun: ClassVar[str] = ""
    happened: ClassVar[str] = ""

    id: str | None = None
    """The same for every copy of one event; set by `Bus.publish_event`. None only from senders before it was sent."""
    occurred_at: datetime | None = None
    """When it happened; set by `Bus.publish_event` if the publisher does not say."""
    organisation: str
    actor: Actor | None = None
    """Who caused it. None: nobody in particular, or several at once."""

    @property
    def subject(self) -> str:
        """Where this event is announced."""
        return f"events.{self.organisation}.{self.noun}.{self.happened}"

    @classmethod
    def everywhere(cls) -> str:
        """The subject that hears this event of every organisation."""
        return f"events.*.{cls.noun}.{cls.happened}"


class Done(Value):
    """The answer when there is nothing to say."""


class Failure(Value):
    """The answer of a handler that raised a `Problem`."""

    status: int
    """HTTP status of the problem's kind."""
    message: str
    origin: str
    """`Humanloop` for the platform, else the provider's display name."""
    retry_after_seconds: float | None = None
