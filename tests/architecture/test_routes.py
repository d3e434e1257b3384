"""Every route is closed by default."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from services.gateway.main import create_app
from services.gateway.requests.route import BodyRoute
from services.gateway.routes import OPEN_PATHS
from services.gateway.settings import Settings
from shared.permissions import PERMISSIONS


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


def _label(route: Any) -> str:
    return f"{min(getattr(route, 'methods', None) or ['-'])} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=_label)
def test_a_route_names_its_permission_or_is_listed_as_open(route: Any) -> None:
    guards = _permissions(getattr(route, "dependant", None))
    if route.path in OPEN_PATHS:
        assert not guards, f"{route.path} is listed as open and guarded: which is it?"
    else:
        assert guards, f"{route.path} is neither guarded nor listed as open"
        assert guards <= set(PERMISSIONS)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.path not in OPEN_PATHS], ids=_label)
def test_a_route_redacts_keys_and_offloads_images(route: Any) -> None:
    """Its router has `route_class=BodyRoute`: no body passes with provider keys, or with images not yet stored."""
    assert isinstance(getattr(route, "original_route", route), BodyRoute)


def test_only_the_two_updates_of_a_log_store_their_images_themselves() -> None:
    originals = {_label(route): getattr(route, "original_route", route) for route in ROUTES}
    deferred = [label for label, route in originals.items() if getattr(route, "endpoint_stores_images", False)]
    assert deferred == ["PATCH /v4/logs", "PATCH /v4/logs/{id}"]


def test_every_open_path_is_there() -> None:
    assert {route.path for route in ROUTES} >= OPEN_PATHS


def test_there_is_something_to_guard() -> None:
    assert len(ROUTES) - len(OPEN_PATHS) > 10
