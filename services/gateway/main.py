"""The composition root: opens what the gateway needs, puts middleware, errors and routes together, listens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from services.gateway import errors
from services.gateway.authentication import Authenticator
from services.gateway.deps import Gateway
from services.gateway.project_cache import ProjectCache
from services.gateway.requests.admission import ContentLengthMiddleware, LargeBodyBudget
from services.gateway.routes import include_routers
from services.gateway.settings import Settings
from services.gateway.tracing import TELEMETRY, TraceIdMiddleware
from shared import telemetry
from shared.appender import Appender
from shared.blobs import Blobs
from shared.bus import Bus
from shared.contracts.logs import LOGS_SUBJECT
from shared.encryption import SecretBox
from shared.service import collect_garbage_less_often

_DESCRIPTION = (
    "The Humanloop v4 API, self-hosted. Point an old client at this server's `/v4` and it works on.\n\n"
    "Every operation takes the header `X-API-KEY`."
)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    bus = Bus(settings, "gateway")
    await bus.open()
    await bus.serve()
    authenticator = Authenticator(bus, settings)
    await authenticator.subscribe()
    project_cache = ProjectCache(bus, settings)
    await project_cache.subscribe()
    app.state.gateway = Gateway(
        bus=bus,
        authenticator=authenticator,
        project_cache=project_cache,
        logs=Appender(bus, LOGS_SUBJECT),
        blobs=Blobs(bus),
        large_bodies=LargeBodyBudget(max(settings.large_bodies_bytes, settings.body_limit_bytes)),
        secret_box=SecretBox.of(settings),
    )
    yield
    await bus.close()


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application."""
    app = FastAPI(
        title="Everloop",
        version="4.0.1",
        description=_DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        telemetry=TELEMETRY,
        max_body_size=settings.body_limit_bytes,
    )
    app.state.settings = settings
    errors.install(app)
    include_routers(app)
    app.add_middleware(TraceIdMiddleware)
    return app


def main() -> None:
    """Listen until SIGTERM or SIGINT; requests in hand are finished first."""
    settings = Settings()
    telemetry.start("everloop-gateway", settings.log_level)
    app = create_app(settings)
    collect_garbage_less_often()
    try:
        uvicorn.run(
            ContentLengthMiddleware(app, settings.body_limit_bytes),
            host=settings.http_host,
            port=settings.http_port,
            loop="uvloop",
            http="httptools",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=settings.http_keep_alive_seconds,  # type: ignore[arg-type]  # a fraction is fine
            timeout_graceful_shutdown=10,
        )
    finally:
        telemetry.stop()


if __name__ == "__main__":
    main()
