"""Projects and config versions: found, made, read."""

from services.generation.deps import Deps
from shared.bus import Router
from shared.contracts.projects import GetProjects, GetVersions, Projects, Resolve, Resolved, Versions
from shared.errors import Invalid

router: Router[Deps] = Router()


@router.answers(Resolve)
async def resolve(command: Resolve, deps: Deps) -> Resolved:
    """Find or make the project and the version."""
    if command.config is not None:
        return await deps.catalogue.register(
            command.organisation, command.project, command.config, may_deploy=command.may_deploy
        )
    if command.config_id is None:
        raise Invalid("Name a config: either the config itself or config_id is needed.")
    return await deps.catalogue.by_id(command.organisation, command.project, command.config_id)


@router.answers(GetVersions)
async def get_versions(query: GetVersions, deps: Deps) -> Versions:
    """Versions by id."""
    return Versions(versions=await deps.catalogue.versions(query.organisation, query.ids))


@router.answers(GetProjects)
async def get_projects(query: GetProjects, deps: Deps) -> Projects:
    """Projects by id."""
    return Projects(projects=await deps.catalogue.projects(query.organisation, query.ids))
