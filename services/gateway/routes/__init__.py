"""Mounts all routers, in the order of the API documentation. Routes outside `OPEN_PATHS` must require a permission."""

from fastapi import FastAPI

from services.gateway.routes import (
    access,
    configs,
    deployments,
    environments,
    feedback,
    generations,
    health,
    logs,
    models,
    projects,
    routing,
    sessions,
    tools,
    usage,
)

OPEN_PATHS = frozenset(
    {
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/api/setup",
        "/api/auth/login",
        "/api/auth/logout",
        "/api/auth/oidc",
        "/api/auth/oidc/callback",
        "/api/auth/password-reset",
        "/api/auth/password-reset/confirm",
        "/api/auth/sign-up",
        "/api/invites/preview",
        "/api/invites/accept",
    }
)
"""Of what nobody is authenticated for; or by what the body has, a password or a token."""


def include_routers(app: FastAPI) -> None:
    """Mount the v4 contract's routers under `/v4` and the others under `/api`."""
    app.include_router(health.router)
    for router in (
        generations.router,
        logs.router,
        logs.export_router,
        logs.update_router,
        feedback.router,
        sessions.router,
        configs.router,
        projects.router,
        deployments.router,
    ):
        app.include_router(router, prefix="/v4")
    for router in (
        sessions.console_router,
        deployments.console_router,
        environments.router,
        models.router,
        tools.router,
        routing.router,
        access.sign_in.open_router,
        access.sign_in.router,
        access.oidc.open_router,
        access.organisations.open_router,
        access.organisations.router,
        access.members.router,
        access.invites.open_router,
        access.invites.router,
        access.keys.router,
        usage.router,
        access.audit.router,
    ):
        app.include_router(router, prefix="/api")
