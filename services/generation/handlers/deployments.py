"""Answers commands and queries about deployments: what is deployed, deploy, undeploy, history."""

from services.generation.deps import Deps
from services.generation.store import DeploymentTarget
from shared.bus import Router
from shared.contracts.generation.deployments import (
    ActiveConfig,
    Deploy,
    Deployed,
    DeployedConfigs,
    Deployments,
    Environment,
    GetActiveConfig,
    ListDeployed,
    ListDeployments,
    Undeploy,
)
from shared.contracts.generation.projects import Project, ProjectRef
from shared.contracts.message import Done
from shared.errors import NotFound

router: Router[Deps] = Router()


@router.answers(ListDeployed)
async def list_deployed(query: ListDeployed, deps: Deps) -> DeployedConfigs:
    """Return what is deployed in each environment of a project. Raises NotFound if there is no such project."""
    project = await _get_project(query.organisation, query.project_id, deps)
    environments = list(await deps.environments.get(query.organisation))
    return await _deployed_configs(query.organisation, project, environments, deps)


@router.answers(GetActiveConfig)
async def get_active(query: GetActiveConfig, deps: Deps) -> ActiveConfig:
    """Return the config deployed in an environment. Raises NotFound if project, environment or deployment is absent."""
    project = await _get_project(query.organisation, query.project_id, deps)
    environment = (await deps.environments.get(query.organisation)).get_by_name(query.environment)
    config_ids = await deps.stores.deployments.get_deployed_config_ids(
        query.organisation, [project.id], [environment.id]
    )
    versions = await deps.stores.versions.get_many(query.organisation, list(config_ids.values()))
    if not versions:
        raise NotFound(f"The project {project.name!r} has nothing deployed in {environment.name!r}.")
    return ActiveConfig(project=project, environment=environment, version=versions[0])


@router.answers(Deploy)
async def deploy(command: Deploy, deps: Deps) -> DeployedConfigs:
    """Deploy a config to environments, by default to the default one; to none if the command is invalid.

    Raises NotFound if the project, the config or an environment does not exist.
    """
    organisation, project_id = command.organisation, command.project_id
    project = await _get_project(organisation, project_id, deps)
    await deps.project_cache.resolve(organisation, ProjectRef(id=project_id), command.config_id)
    environment_set = await deps.environments.get(organisation)
    environment_ids = dict.fromkeys(command.environment_ids)
    environments = [environment_set.get(identifier) for identifier in environment_ids] or [environment_set.default]
    for environment in environments:
        await deps.deployments.deploy(
            DeploymentTarget(organisation, project_id, environment.id), command.config_id, command.principal
        )
    return await _deployed_configs(organisation, project, environments, deps)


@router.answers(Undeploy)
async def undeploy(command: Undeploy, deps: Deps) -> Done:
    """Remove what is deployed in an environment. Raises NotFound if the project or the environment does not exist."""
    await _get_project(command.organisation, command.project_id, deps)
    environment_set = await deps.environments.get(command.organisation)
    if command.environment_id is None:
        environment = environment_set.get_by_name(command.environment)
    else:
        environment = environment_set.get(command.environment_id)
    await deps.deployments.deploy(
        DeploymentTarget(command.organisation, command.project_id, environment.id), None, command.principal
    )
    return Done()


@router.answers(ListDeployments)
async def list_deployments(query: ListDeployments, deps: Deps) -> Deployments:
    """Return a page of the deployments and removals in a project. Raises NotFound if there is no such project."""
    await _get_project(query.organisation, query.project_id, deps)
    page, total = await deps.stores.deployments.list_page(query.organisation, query.project_id, query.page)
    names = {environment.id: environment.name for environment in await deps.environments.get(query.organisation)}
    deployments = [
        deployment.model_copy(update={"environment": names.get(deployment.environment_id)}) for deployment in page
    ]
    return Deployments(deployments=deployments, total=total)


async def _get_project(organisation: str, project_id: str, deps: Deps) -> Project:
    stored = await deps.stores.projects.get(organisation, project_id)
    if stored is None:
        raise NotFound(f"There is no project {project_id!r}.")
    return stored.project


async def _deployed_configs(
    organisation: str, project: Project, environments: list[Environment], deps: Deps
) -> DeployedConfigs:
    """Return the id and name of what is deployed in each of the environments."""
    deployed = await deps.stores.deployments.get_deployed_config_ids(
        organisation, [project.id], [environment.id for environment in environments]
    )
    names = await deps.stores.versions.get_names(organisation, list(deployed.values()))
    config_ids = {environment.id: deployed.get((project.id, environment.id)) for environment in environments}
    return DeployedConfigs(
        project=project,
        deployed=[
            Deployed(
                environment=environment,
                config_id=config_ids[environment.id],
                config_name=names.get(config_ids[environment.id] or ""),
            )
            for environment in environments
        ],
    )
