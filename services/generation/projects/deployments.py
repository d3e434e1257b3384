"""Deploys configs into environments and removes them; every change is stored in the history and published."""

from typing import Literal

from services.generation.projects.invalidation import Invalidation
from services.generation.store import DeploymentStore, DeploymentTarget
from shared.contracts.generation.projects import ProjectChanged
from shared.contracts.principal import Actor


class Deployer:
    """Stores a change of what is deployed, then publishes `ProjectChanged`."""

    def __init__(self, store: DeploymentStore, invalidation: Invalidation) -> None:
        self._store = store
        self._invalidation = invalidation

    async def deploy(self, target: DeploymentTarget, config_id: str | None, actor: Actor | None) -> None:
        """Deploy a config in the target; None removes what is deployed. Raises Unavailable.

        Deploying what is deployed already stores nothing but publishes the stored change again: a command is repeated
        when publishing had failed.
        """
        while True:
            latest = await self._store.get_latest(target)
            unchanged = latest.config_id == config_id
            change = latest if unchanged else await self._store.insert_next(target, latest, config_id, actor)
            if change is not None:
                break
        if change.id:
            await self._publish(target, "undeployed" if config_id is None else "deployed", change.id, actor)

    async def deploy_first(self, target: DeploymentTarget, config_id: str, actor: Actor | None) -> None:
        """Deploy a config in the target if nothing was ever deployed there, not even what was removed since."""
        latest = await self._store.get_latest(target)
        if latest.id:
            return
        if change := await self._store.insert_next(target, latest, config_id, actor):
            await self._publish(target, "deployed", change.id, actor)

    async def _publish(
        self, target: DeploymentTarget, what: Literal["deployed", "undeployed"], deployment_id: str, actor: Actor | None
    ) -> None:
        event = ProjectChanged(organisation=target.organisation, project_id=target.project_id, what=what, actor=actor)
        await self._invalidation.publish(event, deployment_id)
