"""The four kinds of message. The base class decides the transport, so nobody chooses twice.

Query    core request/reply, changes nothing, may be retried
Command  core request/reply, one handler: save, announce, reply
Job      JetStream work queue, one worker at a time, safe to run twice
Event    JetStream `EVENTS`, past tense, any number of readers
"""

from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

R = TypeVar("R", bound=BaseModel)


class Value(BaseModel):
    """Something messages contain. Immutable; unknown fields of a newer sender are ignored."""

    # What cannot be read may be secret, and the error goes into a service's log.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


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


class Query(Request[R], Generic[R]):
    """A question; asking it twice is harmless."""


class Command(Request[R], Generic[R]):
    """A change whose caller waits. Ids are minted by the sender, so a repeat is the same change."""


class Job(Value):
    """Work nobody waits for. It names what to work on and does not carry it: 1 MiB at most.

    Its handler must be safe to run twice, at the same time too: a job whose worker was killed, or cut off for a while,
    is given to another.
    """

    subject: ClassVar[str] = ""
    """`jobs.<owner>.<what>`; the owner is the service that does the work."""

    id: str
    """Minted or derived by the sender, unique among all jobs: of several jobs with one id, enqueued within 15 minutes,
    one is kept."""
    organisation: str


class Event(Value):
    """A fact. Published on `events.<organisation>.<noun>.<past participle>`."""

    noun: ClassVar[str] = ""
    happened: ClassVar[str] = ""

    organisation: str

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
