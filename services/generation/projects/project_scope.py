"""Limits what a call names to the projects of its key: an API key may be limited to some."""

from services.generation.projects.project_cache import ProjectCache
from shared.contracts.generation.projects import ProjectRef
from shared.contracts.principal import Principal
from shared.errors import Denied, NotFound
from shared.permissions import check_project, has_project


async def limit_project(
    cache: ProjectCache, organisation: str, principal: Principal | None, ref: ProjectRef, *, create: bool
) -> ProjectRef:
    """Return what names the project, by its id if the principal's key is limited to projects.

    By the id, since the project of a name may be another one a moment later. Raises NotFound if the project is not one
    of the key's; Denied instead if it is named by a name and would be created, because such a key creates none.
    """
    if principal is None or principal.projects is None or ref == ProjectRef():
        return ref
    if ref.id is not None:
        check_project(principal, ref.id)
        return ref
    try:
        project = await cache.find_project(organisation, ref)
    except NotFound:
        project = None
    if project is not None and has_project(principal, project.id):
        return ProjectRef(id=project.id)
    if create:
        raise Denied(
            f"This key is limited to projects, none of which is named {ref.name!r}, and may not create another."
        )
    raise NotFound(f"There is no project {ref.name!r}.")


async def limit_config(cache: ProjectCache, organisation: str, principal: Principal | None, config_id: str) -> None:
    """Raise NotFound, as if there were no such config, if it is of a project that the principal's key is not for."""
    if principal is not None and principal.projects is not None:
        version = await cache.get_version(organisation, config_id)
        if not has_project(principal, version.project_id):
            raise NotFound(f"There is no config {config_id!r}.")
