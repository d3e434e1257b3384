"""Putting configs into environments: every change is in the history, and everybody hears of it."""

from typing import Literal

from services.generation.projects.invalidation import Invalidation
from services.generation.store import DeploymentStore, Place
from shared.contracts.principal import Actor
from shared.contracts.projects import ProjectChanged


class Deployer:
    """The store, and who has to know."""

    def __init__(self, store: DeploymentStore, invalidation: Invalidation) -> None:
        self._store = store
        self._invalidation = invalidation

    async def put(self, place: Place, config_id: str | None, actor: Actor | None) -> None:
        """Deploy a config, or leave the place empty.

        What is so already is no change, yet it is told again: a command may be repeated because telling had failed.
        """
        while True:
            last = await self._store.last(place)
            change = last if last.config_id == config_id else await self._store.add(place, last, config_id, actor)
            if change is not None:
                break
        if change.id:
            await self._tell(place, "undeployed" if config_id is None else "deployed", change.id, actor)

    async def put_first(self, place: Place, config_id: str, actor: Actor | None) -> None:
        """Deploy where nothing ever was; what was deployed, or removed, stays so."""
        last = await self._store.last(place)
        if last.id:
            return
        if change := await self._store.add(place, last, config_id, actor):
            await self._tell(place, "deployed", change.id, actor)

    async def _tell(
        self, place: Place, what: Literal["deployed", "undeployed"], change_id: str, actor: Actor | None
    ) -> None:
        event = ProjectChanged(organisation=place.organisation, project_id=place.project_id, what=what, actor=actor)
        await self._invalidation.publish(event, change_id)
