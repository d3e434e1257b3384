"""Every route is closed by default."""

from typing import Any

import pytest

from services.gateway.requests.open_route import OpenRoute
from services.gateway.requests.route import BodyRoute
from services.gateway.routes import OPEN_PATHS
from shared.contracts.permissions import BE_MEMBER, PERMISSIONS
from tests.gateway_routes import ROUTES, is_limited, permissions_of


def _label(route: Any) -> str:
    return f"{min(getattr(route, 'methods', None) or ['-'])} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=_label)
def test_a_route_names_its_permission_or_is_listed_as_open(route: Any) -> None:
    guards = permissions_of(route)
    if route.path in OPEN_PATHS:
        assert not guards, f"{route.path} is listed as open and guarded: which is it?"
    else:
        assert guards, f"{route.path} is neither guarded nor listed as open"
        assert guards <= {*PERMISSIONS, BE_MEMBER.name}


@pytest.mark.parametrize("route", [route for route in ROUTES if route.path not in OPEN_PATHS], ids=_label)
def test_a_route_redacts_keys_and_offloads_images(route: Any) -> None:
    """Its router has `route_class=BodyRoute`: no body passes with provider keys, or with images not yet stored."""
    assert isinstance(getattr(route, "original_route", route), BodyRoute)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.path in OPEN_PATHS], ids=_label)
def test_an_open_route_reads_small_bodies_only(route: Any) -> None:
    original = getattr(route, "original_route", route)
    assert isinstance(original, OpenRoute) or getattr(original, "body_field", None) is None


def test_only_the_two_updates_of_a_log_store_their_images_themselves() -> None:
    originals = {_label(route): getattr(route, "original_route", route) for route in ROUTES}
    deferred = [label for label, route in originals.items() if getattr(route, "endpoint_stores_images", False)]
    assert deferred == ["PATCH /v4/logs", "PATCH /v4/logs/{id}"]


def test_every_open_path_is_there() -> None:
    assert {route.path for route in ROUTES} >= OPEN_PATHS


def test_there_is_something_to_guard() -> None:
    assert len(ROUTES) - len(OPEN_PATHS) > 10


LIMITED = """
DELETE /v4/logs
GET /api/environments
GET /api/models
GET /api/projects/{id}/deployments
GET /api/tools
GET /v4/logs
GET /v4/logs/{id}
GET /v4/projects
GET /v4/projects/{id}
GET /v4/projects/{id}/active-config
GET /v4/projects/{id}/configs
GET /v4/projects/{id}/deployed-configs
PATCH /v4/logs
PATCH /v4/logs/{id}
PATCH /v4/projects/{id}/feedback-types
POST /v4/chat
POST /v4/chat-deployed
POST /v4/chat-model-config
POST /v4/completion
POST /v4/completion-deployed
POST /v4/completion-model-config
POST /v4/feedback
POST /v4/logs
POST /v4/projects/{id}/export
POST /v4/projects/{id}/feedback-types
"""


def test_a_key_that_is_limited_to_projects_may_use_these_routes_and_no_other() -> None:
    """Each of them shows and changes nothing of other projects (tests/e2e/access/test_limited_keys.py)."""
    assert sorted(_label(route) for route in ROUTES if is_limited(route)) == LIMITED.split("\n")[1:-1]
