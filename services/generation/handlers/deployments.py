"""What is deployed where: read, changed, and who changed it when."""

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


@router.request_handler(ListDeployed)
async def list_deployed(query: ListDeployed, deps: Deps) -> DeployedConfigs:
    """Every environment of a project."""
    project = await _project(query.organisation, query.project_id, deps)
    environments = list(await deps.environments.get(query.organisation))
    return await _deployed(query.organisation, project, environments, deps)


@router.request_handler(GetActiveConfig)
async def get_active(query: GetActiveConfig, deps: Deps) -> ActiveConfig:
    """What calls in an environment use."""
    project = await _project(query.organisation, query.project_id, deps)
    environment = (await deps.environments.get(query.organisation)).get_by_name(query.environment)
    places = await deps.stores.deployments.get_deployed_config_ids(query.organisation, [project.id], [environment.id])
    versions = await deps.stores.versions.get_many(query.organisation, list(places.values()))
    if not versions:
        raise NotFound(f"The project {project.name!r} has nothing deployed in {environment.name!r}.")
    return ActiveConfig(project=project, environment=environment, version=versions[0])


@router.request_handler(Deploy)
async def deploy(command: Deploy, deps: Deps) -> DeployedConfigs:
    """Deploy to the environments, or to none if something about the command is wrong."""
    organisation, project_id = command.organisation, command.project_id
    project = await _project(organisation, project_id, deps)
    await deps.project_cache.resolve(organisation, ProjectRef(id=project_id), command.config_id)
    all_ = await deps.environments.get(organisation)
    wanted = [all_.get(one) for one in dict.fromkeys(command.environment_ids)] or [all_.default]
    for environment in wanted:
        await deps.deployments.deploy(
            DeploymentTarget(organisation, project_id, environment.id), command.config_id, command.actor
        )
    return await _deployed(organisation, project, wanted, deps)


@router.request_handler(Undeploy)
async def undeploy(command: Undeploy, deps: Deps) -> Done:
    """Leave an environment without a config."""
    await _project(command.organisation, command.project_id, deps)
    all_ = await deps.environments.get(command.organisation)
    by_name = command.environment_id is None
    environment = all_.get_by_name(command.environment) if by_name else all_.get(command.environment_id or "")
    await deps.deployments.deploy(
        DeploymentTarget(command.organisation, command.project_id, environment.id), None, command.actor
    )
    return Done()


@router.request_handler(ListDeployments)
async def list_deployments(query: ListDeployments, deps: Deps) -> Deployments:
    """The history of a project."""
    await _project(query.organisation, query.project_id, deps)
    found, total = await deps.stores.deployments.list_page(query.organisation, query.project_id, query.page)
    names = {place.id: place.name for place in await deps.environments.get(query.organisation)}
    named = [one.model_copy(update={"environment": names.get(one.environment_id)}) for one in found]
    return Deployments(deployments=named, total=total)


async def _project(organisation: str, project_id: str, deps: Deps) -> Project:
    stored = await deps.stores.projects.get(organisation, project_id)
    if stored is None:
        raise NotFound(f"There is no project {project_id!r}.")
    return stored.project


async def _deployed(
    organisation: str, project: Project, environments: list[Environment], deps: Deps
) -> DeployedConfigs:
    found = await deps.stores.deployments.get_deployed_config_ids(
        organisation, [project.id], [one.id for one in environments]
    )
    names = await deps.stores.versions.get_names(organisation, list(found.values()))
    here = {one.id: found.get((project.id, one.id)) for one in environments}
    return DeployedConfigs(
        project=project,
        deployed=[
            Deployed(environment=one, config_id=here[one.id], config_name=names.get(here[one.id] or ""))
            for one in environments
        ],
    )
