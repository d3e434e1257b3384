"""Messages and values owned by `generation`: redirects of models, and fallback models."""

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field

from shared.contracts.audit_actions import AuditAction
from shared.contracts.generation.projects import Provider
from shared.contracts.message import Command, Done, Event, Query
from shared.contracts.permissions import CHANGE_DEPLOYMENTS, EDIT_PROMPTS, Permission
from shared.contracts.value import Value


class Target(Value):
    """A model at a provider."""

    provider: Provider = "openai"
    model: Annotated[str, Field(min_length=1, max_length=200)]


class Redirect(Value):
    """Replaces a model when it is called, and lists its fallbacks. Configs are not changed, so their versions stay."""

    asked: Target
    """The model named in configs."""
    served: Target | None = None
    """The model that is called instead; None: `asked` itself. A redirect of it is not followed."""
    fallbacks: list[Target] = []
    """Called in this order when the served model fails: overloaded, server error, or timeout."""
    changed_at: datetime
    changed_by: str
    """Email address."""


class SetRedirect(Command[Redirect]):
    """Create or replace the redirect of a model.

    Raises Invalid if it leads to itself, names an unknown provider, or has neither `served` nor `fallbacks`.
    """

    subject: ClassVar[str] = "generation.set_redirect"
    permission: ClassVar[Permission | None] = CHANGE_DEPLOYMENTS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("redirect.set",)

    asked: Target
    served: Target | None = None
    fallbacks: list[Target] = []


class DeleteRedirect(Command[Done]):
    """Delete the redirect of a model. Raises NotFound."""

    subject: ClassVar[str] = "generation.delete_redirect"
    permission: ClassVar[Permission | None] = CHANGE_DEPLOYMENTS
    audited_as: ClassVar[tuple[AuditAction, ...]] = ("redirect.deleted",)

    asked: Target


class Redirects(Value):
    """All redirects, sorted by provider and model."""

    redirects: list[Redirect]


class ListRedirects(Query[Redirects]):
    """Return the redirects of the organisation."""

    subject: ClassVar[str] = "generation.list_redirects"
    permission: ClassVar[Permission | None] = EDIT_PROMPTS


class RoutingChanged(Event):
    """A redirect or a provider key of the organisation changed: cached ones are void."""

    noun: ClassVar[str] = "routing"
    past_participle: ClassVar[str] = "changed"

    what: str
    """`redirect set`, `redirect deleted`, `key set` or `key deleted`."""
