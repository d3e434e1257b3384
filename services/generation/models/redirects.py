"""Which models answer for the one a config names: its redirect, then its fallbacks."""

from collections.abc import Sequence

from services.generation.store import RedirectStore
from shared.cache import Cache
from shared.contracts.projects import ModelConfig
from shared.contracts.routing import Redirect, SetRedirect, Target
from shared.errors import Invalid, NotFound

MOST_FALLBACKS = 5
_FRESH_SECONDS = 30.0
"""A change is heard of; this is for the case that it was not."""
_STALE_SECONDS = 900.0


class ModelRedirects:
    """The store behind a memory."""

    def __init__(self, store: RedirectStore) -> None:
        self._store = store
        self._redirects: Cache[str, dict[tuple[str, str], Redirect]] = Cache(
            most=5_000, fresh_seconds=_FRESH_SECONDS, stale_seconds=_STALE_SECONDS
        )

    async def configs(self, organisation: str, config: ModelConfig) -> list[ModelConfig]:
        """The config as it is to be called, then as it is to be called when that fails."""
        known = await self._redirects.get(organisation, lambda: self._ask(organisation))
        if not known:
            return [config]
        redirect = known.get((config.provider, config.model))
        return [config] if redirect is None else [_aimed(config, target) for target in _targets(redirect)]

    async def _ask(self, organisation: str) -> dict[tuple[str, str], Redirect]:
        redirects = await self._store.all(organisation)
        return {(redirect.asked.provider, redirect.asked.model): redirect for redirect in redirects}

    async def listed(self, organisation: str) -> list[Redirect]:
        """By provider and model."""
        return await self._store.all(organisation)

    async def set(self, command: SetRedirect, known: Sequence[str]) -> Redirect:
        """Make or replace one; `known` are the providers there are. Errors: Invalid."""
        check(command, known)
        rest: dict[str, object] = {
            "served": command.served,
            "fallbacks": command.fallbacks,
            "changed_by": (command.actor and command.actor.email) or "",
        }
        redirect = await self._store.put(command.organisation, command.asked, rest)
        self.forget(command.organisation)
        return redirect

    async def delete(self, organisation: str, asked: Target) -> None:
        """Errors: NotFound."""
        if not await self._store.delete(organisation, asked):
            raise NotFound(f"There is no redirect of the model {asked.model!r} of {asked.provider!r}.")
        self.forget(organisation)

    def forget(self, organisation: str | None = None) -> None:
        """Ask the store again; None: for everybody."""
        self._redirects.forget(lambda key, _: organisation in (None, key))


def check(command: SetRedirect, known: Sequence[str]) -> None:
    """Errors: Invalid, naming the field."""
    if command.served is None and not command.fallbacks:
        raise Invalid("A redirect says something: send served, the model that answers instead, or fallbacks.")
    if len(command.fallbacks) > MOST_FALLBACKS:
        raise Invalid(f"fallbacks may be {MOST_FALLBACKS} at most.")
    for field, target in _named(command):
        if target.provider not in known:
            raise Invalid(f"{field}.provider {target.provider!r} cannot be called; known are {', '.join(known)}.")
        if target == command.asked:
            raise Invalid(f"{field} is the model that is redirected itself.")


def _named(command: SetRedirect) -> list[tuple[str, Target]]:
    served = [("served", command.served)] if command.served else []
    return served + [(f"fallbacks[{index}]", target) for index, target in enumerate(command.fallbacks)]


def _targets(redirect: Redirect) -> list[Target]:
    return [redirect.served or redirect.asked, *redirect.fallbacks]


def _aimed(config: ModelConfig, target: Target) -> ModelConfig:
    return config.model_copy(update={"provider": target.provider, "model": target.model})
