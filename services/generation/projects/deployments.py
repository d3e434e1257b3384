"""Deploys configs into environments and removes them; every change is stored in the history, audited and published."""

from typing import Literal

from services.generation.projects.invalidation import Invalidation
from services.generation.store import DeploymentStore, DeploymentTarget
from services.generation.store.deployments import LatestDeployment
from shared.audit import AuditOutbox, audit_entry
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.generation.projects import ProjectChanged
from shared.contracts.principal import Principal


class Deployer:
    """Stores a change of what is deployed with its entry in the audit log, then publishes `ProjectChanged`."""

    def __init__(self, store: DeploymentStore, invalidation: Invalidation, audit: AuditOutbox) -> None:
        self._store = store
        self._invalidation = invalidation
        self._audit = audit

    async def deploy(self, target: DeploymentTarget, config_id: str | None, principal: Principal | None) -> None:
        """Deploy a config in the target; None removes what is deployed. Raises Unavailable.

        Deploying what is deployed already stores nothing but publishes the stored change again: a command is repeated
        when publishing had failed.
        """
        while True:
            latest = await self._store.get_latest(target)
            unchanged = latest.config_id == config_id
            change = latest if unchanged else await self._insert_next(target, latest, config_id, principal)
            if change is not None:
                break
        if change.id:
            await self._publish(target, change, principal)

    async def deploy_first(self, target: DeploymentTarget, config_id: str, principal: Principal | None) -> None:
        """Deploy a config in the target if nothing was ever deployed there, not even what was removed since."""
        latest = await self._store.get_latest(target)
        if latest.id:
            return
        if change := await self._insert_next(target, latest, config_id, principal):
            await self._publish(target, change, principal)

    async def _insert_next(
        self, target: DeploymentTarget, previous: LatestDeployment, config_id: str | None, principal: Principal | None
    ) -> LatestDeployment | None:
        """Store the change after `previous`; None if that is not the latest any more."""
        actor = principal and principal.actor
        return await self._audit.record(
            lambda session: self._store.insert_next(target, previous, config_id, actor, session),
            lambda change: _entry(target, previous, change, principal),
        )

    async def _publish(self, target: DeploymentTarget, change: LatestDeployment, principal: Principal | None) -> None:
        what: Literal["deployed", "undeployed"] = "undeployed" if change.config_id is None else "deployed"
        actor = principal and principal.actor
        event = ProjectChanged(organisation=target.organisation, project_id=target.project_id, what=what, actor=actor)
        await self._invalidation.publish(event, change.id)


def _entry(
    target: DeploymentTarget, previous: LatestDeployment, change: LatestDeployment, principal: Principal | None
) -> AuditEntry:
    """Return the entry of the audit log; that a project's first config was deployed by itself is not told apart."""
    return audit_entry(
        "deployment.undeployed" if change.config_id is None else "deployment.deployed",
        principal,
        target.organisation,
        AuditObject(kind="project", id=target.project_id),
        cause=[change.id],
        details={
            "environment_id": target.environment_id,
            "config_id": change.config_id,
            "previous_config_id": previous.config_id,
        },
    )
