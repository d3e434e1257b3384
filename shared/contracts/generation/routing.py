"""Owned by `generation`: who answers in place of a model, and who answers when nobody does."""

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field

from shared.contracts.generation.projects import Provider
from shared.contracts.message import Command, Done, Event, Query
from shared.contracts.value import Value


class Target(Value):
    """A model at a provider."""

    provider: Provider = "openai"
    model: Annotated[str, Field(min_length=1, max_length=200)]


class Redirect(Value):
    """What happens to calls for a model. Configs keep the name they have, so their versions stay the same."""

    asked: Target
    """The model that configs name."""
    served: Target | None = None
    """The one that answers instead; None: the model itself. A redirect of it is not followed."""
    fallbacks: list[Target] = []
    """Asked in this order when the served one fails for load, a defect of its own, or silence."""
    changed_at: datetime
    changed_by: str
    """Email address."""


class SetRedirect(Command[Redirect]):
    """Make or replace the redirect of a model. Errors: Invalid (to itself; unknown provider; says nothing)."""

    subject: ClassVar[str] = "generation.set_redirect"

    asked: Target
    served: Target | None = None
    fallbacks: list[Target] = []


class DeleteRedirect(Command[Done]):
    """Let the model answer for itself again. Errors: NotFound."""

    subject: ClassVar[str] = "generation.delete_redirect"

    asked: Target


class Redirects(Value):
    """All of them, by provider and model."""

    redirects: list[Redirect]


class ListRedirects(Query[Redirects]):
    """The redirects of an organisation."""

    subject: ClassVar[str] = "generation.list_redirects"


class RoutingChanged(Event):
    """A redirect or a provider key of the organisation changed: what was remembered of them is void."""

    noun: ClassVar[str] = "routing"
    happened: ClassVar[str] = "changed"

    what: str
    """`redirect set`, `redirect deleted`, `key set` or `key deleted`."""
