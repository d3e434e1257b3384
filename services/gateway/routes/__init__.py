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

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json"})


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
        access.members.router,
        access.keys.router,
        usage.router,
    ):
        app.include_router(router, prefix="/api")
