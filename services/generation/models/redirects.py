"""Redirects and fallbacks: which models are called for the one a config names, in which order."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import JsonValue

from services.generation.store import RedirectStore
from shared.audit import AuditOutbox, audit_entry
from shared.cache import Cache
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.audit_actions import AuditAction
from shared.contracts.generation.projects import ModelConfig
from shared.contracts.generation.routing import DeleteRedirect, Redirect, SetRedirect, Target
from shared.errors import Invalid, NotFound

MAX_FALLBACKS = 5
"""Per redirect."""
_FRESH_SECONDS = 30.0
"""How long redirects are used without reading them again. Events drop them at once; this is for a lost event."""
_STALE_SECONDS = 900.0
"""How long they are used while the database is away."""

_ModelKey = tuple[str, str]
"""Provider, model."""


class ModelRedirects:
    """Reads and writes the redirects of organisations; reads go through a cache."""

    def __init__(self, store: RedirectStore, audit: AuditOutbox) -> None:
        self._store = store
        self._audit = audit
        self._redirects: Cache[str, dict[_ModelKey, Redirect]] = Cache(
            tags=lambda organisation, _: [organisation],
            max_entries=5_000,
            fresh_seconds=_FRESH_SECONDS,
            stale_seconds=_STALE_SECONDS,
        )

    async def resolve(self, organisation: str, config: ModelConfig) -> list[ModelConfig]:
        """Return the configs to call, in order: the served model's, then those of its fallbacks.

        Without a redirect of the config's model that is the config alone. They differ from `config` in `provider` and
        `model`; a redirect of a served model or a fallback is not followed.
        """
        redirects = await self._redirects.get(organisation, lambda: self._load(organisation))
        redirect = redirects.get((config.provider, config.model))
        if redirect is None:
            return [config]
        targets = [redirect.served or redirect.asked, *redirect.fallbacks]
        return [_with_target(config, target) for target in targets]

    async def _load(self, organisation: str) -> dict[_ModelKey, Redirect]:
        redirects = await self._store.list_all(organisation)
        return {(redirect.asked.provider, redirect.asked.model): redirect for redirect in redirects}

    async def list_all(self, organisation: str) -> list[Redirect]:
        """Return the organisation's redirects as they are stored, sorted by provider and model."""
        return await self._store.list_all(organisation)

    async def set(self, command: SetRedirect, providers: Sequence[str]) -> Redirect:
        """Insert or replace the redirect of a model; `providers` are the names that can be called. Raises Invalid.

        One that is stored like this already stays as it is.
        """
        validate(command, providers)
        new = Redirect(
            asked=command.asked,
            served=command.served,
            fallbacks=command.fallbacks,
            changed_at=datetime.now(UTC),
            changed_by=(command.actor and command.actor.email) or "",
        )
        for stored in await self._store.list_all(command.organisation):
            if (stored.asked, stored.served, stored.fallbacks) == (new.asked, new.served, new.fallbacks):
                return stored
        leads_to = [_name(target) for target in (new.served or new.asked, *new.fallbacks)]
        await self._audit.record(
            lambda session: self._store.upsert(command.organisation, new, session),
            lambda _: _entry("redirect.set", command, {"leads_to": [*leads_to]}),
        )
        self.invalidate(command.organisation)
        return new

    async def delete(self, command: DeleteRedirect) -> None:
        """Delete the redirect of a model. Raises NotFound."""
        organisation, asked = command.organisation, command.asked
        deleted = await self._audit.record(
            lambda session: self._store.delete(organisation, asked, session),
            lambda _: _entry("redirect.deleted", command, {}),
        )
        if not deleted:
            raise NotFound(f"There is no redirect of the model {asked.model!r} of {asked.provider!r}.")
        self.invalidate(organisation)

    def invalidate(self, organisation: str | None = None) -> None:
        """Drop the cached redirects of the organisation; of all if None."""
        if organisation is None:
            self._redirects.clear()
        else:
            self._redirects.invalidate(organisation)


def _name(target: Target) -> str:
    return f"{target.provider}/{target.model}"


def _entry(action: AuditAction, command: SetRedirect | DeleteRedirect, details: dict[str, JsonValue]) -> AuditEntry:
    changed = AuditObject(kind="redirect", id=_name(command.asked), name=_name(command.asked))
    return audit_entry(action, command.principal, command.organisation, changed, details=details)


def validate(command: SetRedirect, providers: Sequence[str]) -> None:
    """Raise Invalid, naming the field, for a redirect that changes nothing, leads to itself or to no known provider."""
    if command.served is None and not command.fallbacks:
        raise Invalid("A redirect says something: send served, the model that answers instead, or fallbacks.")
    if len(command.fallbacks) > MAX_FALLBACKS:
        raise Invalid(f"fallbacks may be {MAX_FALLBACKS} at most.")
    for field, target in _targets_by_field(command):
        if target.provider not in providers:
            raise Invalid(f"{field}.provider {target.provider!r} cannot be called; known are {', '.join(providers)}.")
        if target == command.asked:
            raise Invalid(f"{field} is the model that is redirected itself.")


def _targets_by_field(command: SetRedirect) -> list[tuple[str, Target]]:
    served = [("served", command.served)] if command.served else []
    return served + [(f"fallbacks[{index}]", target) for index, target in enumerate(command.fallbacks)]


def _with_target(config: ModelConfig, target: Target) -> ModelConfig:
    return config.model_copy(update={"provider": target.provider, "model": target.model})
