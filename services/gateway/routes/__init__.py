"""All routes, in the order of the documentation. Closed by default: only `OPEN_PATHS` need no permission."""

from fastapi import FastAPI

from services.gateway.routes import (
    configs,
    deployments,
    environments,
    feedback,
    generations,
    health,
    keys,
    logs,
    models,
    projects,
    routing,
    sessions,
    tools,
)

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json"})


def include(app: FastAPI) -> None:
    """Mount every router."""
    app.include_router(health.router)
    for router in (
        generations.router,
        logs.router,
        logs.completing,
        feedback.router,
        sessions.router,
        configs.router,
        projects.router,
        deployments.router,
    ):
        app.include_router(router, prefix="/v4")
    for router in (
        sessions.console,
        deployments.console,
        environments.router,
        models.router,
        tools.router,
        routing.router,
        keys.router,
    ):
        app.include_router(router, prefix="/api")
