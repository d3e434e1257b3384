"""The gateway's routes, and the permissions they require."""

from collections.abc import Iterable, Iterator
from typing import Any

from services.gateway.main import create_app
from services.gateway.settings import Settings


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """The routes themselves; FastAPI keeps an included router as one entry."""
    for route in routes:
        if hasattr(route, "effective_candidates"):
            yield from _flat(route.effective_candidates())
            yield from _flat(route.effective_low_priority_routes())
        else:
            yield route


ROUTES = list(_flat(create_app(Settings(secret="x" * 44)).routes))


def _permissions(dependant: Any) -> set[str]:
    if dependant is None:
        return set()
    permission = getattr(dependant.call, "permission", None)
    return {permission.name} if permission else set[str]().union(*map(_permissions, dependant.dependencies))


def permissions_of(route: Any) -> set[str]:
    """Return the names of the permissions that a route requires."""
    return _permissions(getattr(route, "dependant", None))


def _guards(dependant: Any) -> Iterator[Any]:
    if dependant is not None:
        if hasattr(dependant.call, "limited"):
            yield dependant.call
        for dependency in dependant.dependencies:
            yield from _guards(dependency)


def is_limited(route: Any) -> bool:
    """Return whether a route answers keys that are limited to projects."""
    guards = list(_guards(getattr(route, "dependant", None)))
    return bool(guards) and all(guard.limited for guard in guards)
