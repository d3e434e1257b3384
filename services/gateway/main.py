"""The composition root of the gateway: puts middleware, errors and routes together, and listens."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

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
from shared.appender import Appender
from shared.blobs import Blobs
from shared.bus import Bus
from shared.contracts.logs import LOGS_SUBJECT
from shared.encryption import SecretBox
from shared.service import Probes, Service

_DESCRIPTION = (
    "The Humanloop v4 API, self-hosted. Point an old client at this server's `/v4` and it works on.\n\n"
    "Every operation takes the header `X-API-KEY`."
)


def create_service(settings: Settings) -> Service:
    """Compose the gateway."""
    return Service("gateway", settings, partial(_open, settings))


@asynccontextmanager
async def _open(settings: Settings, bus: Bus) -> AsyncIterator[Probes]:
    app = create_app(settings)
    app.state.gateway = gateway = Gateway(
        bus=bus,
        authenticator=Authenticator(bus, settings),
        project_cache=ProjectCache(bus, settings),
        logs=Appender(bus, LOGS_SUBJECT),
        blobs=Blobs(bus),
        large_bodies=LargeBodyBudget(max(settings.large_bodies_bytes, settings.body_limit_bytes)),
        secret_box=SecretBox.from_settings(settings),
    )
    await gateway.authenticator.subscribe()
    await gateway.project_cache.subscribe()
    await _serve_http(app, settings, bus)
    yield {}


class _HttpServer(uvicorn.Server):
    """uvicorn without its own signal handlers: `shared.service` stops the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the handlers as they are."""
        yield


async def _serve_http(app: FastAPI, settings: Settings, bus: Bus) -> None:
    """Listen; return when connections are accepted. Requests in hand are finished before the bus is closed."""
    server = _HttpServer(
        uvicorn.Config(
            ContentLengthMiddleware(app, settings.body_limit_bytes),
            host=settings.http_host,
            port=settings.http_port,
            loop="none",  # it runs in the loop of the service
            http="httptools",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=settings.http_keep_alive_seconds,  # type: ignore[arg-type]  # a fraction is fine
            timeout_graceful_shutdown=8,  # then streams are cut, while the bus can still tell who generates them
        )
    )
    serving = bus.supervise(server.serve(), "serve HTTP")

    async def stop() -> None:
        server.should_exit = True
        await asyncio.wait({serving})

    bus.on_close(stop)
    while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)


def create_app(settings: Settings) -> FastAPI:
    """Return the ASGI application; `app.state.gateway` is what its routes work with, and is set when it is opened."""
    app = FastAPI(
        title="Everloop",
        version="4.0.1",
        description=_DESCRIPTION,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        telemetry=TELEMETRY,
        max_body_size=settings.body_limit_bytes,
    )
    errors.install(app)
    include_routers(app)
    app.add_middleware(TraceIdMiddleware)
    return app


def main() -> None:
    """Run until SIGTERM or SIGINT; requests in hand are finished first."""
    create_service(Settings()).run()


if __name__ == "__main__":
    main()
