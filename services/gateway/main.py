"""The composition root of the gateway: puts middleware, errors and routes together, and listens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from services.gateway import errors
from services.gateway.authentication.authenticator import Authenticator
from services.gateway.deps import Gateway
from services.gateway.project_cache import ProjectCache
from services.gateway.requests.admission import BodyRoom, ContentLengthMiddleware
from services.gateway.requests.json_size import MAX_PARSED_BYTES
from services.gateway.requests.rate_limits import RateLimits
from services.gateway.requests.reads import Reads
from services.gateway.responses import openapi
from services.gateway.responses.headers import ResponseHeadersMiddleware
from services.gateway.routes import include_routers
from services.gateway.server.client_address import TrustedProxies
from services.gateway.server.server import serve_http
from services.gateway.server.tracing import TELEMETRY, TraceIdMiddleware
from services.gateway.settings import Settings
from shared.appender import Appender
from shared.blobs import Blobs
from shared.bus import Bus
from shared.contracts.logs import LOGS_SUBJECT
from shared.encryption import SecretBox
from shared.fair_order import FairOrder
from shared.service import Probes, Service

_DESCRIPTION = (
    "The Humanloop v4 API, self-hosted. Point an old client at this server's `/v4` and it works on.\n\n"
    "Operations take the header `X-API-KEY`; or the cookie of a session, and `X-CSRF-Token` where they are no GET."
)


def create_service(settings: Settings) -> Service:
    """Compose the gateway."""
    return Service("gateway", settings, partial(_open, settings))


@asynccontextmanager
async def _open(settings: Settings, bus: Bus, _: Probes) -> AsyncIterator[None]:
    app = create_app(settings)
    app.state.gateway = gateway = Gateway(
        bus=bus,
        authenticator=Authenticator(bus, settings),
        project_cache=ProjectCache(bus, settings),
        logs=Appender(bus, LOGS_SUBJECT),
        blobs=Blobs(bus),
        body_room=BodyRoom(max(settings.large_bodies_bytes, 2 * settings.body_limit_bytes, 2 * MAX_PARSED_BYTES)),
        fair_order=FairOrder(),
        reads=Reads(),
        rate_limits=RateLimits(
            bus, per_key=settings.rate_per_key, per_address=settings.rate_per_address_unauthenticated
        ),
        secret_box=SecretBox.from_settings(settings),
        trusted_proxies=TrustedProxies(settings.http_trusted_proxies),
    )
    await gateway.authenticator.subscribe()
    bus.supervise(gateway.authenticator.cut_off_revoked(), "cut off calls with revoked keys")
    await gateway.project_cache.subscribe()
    await serve_http(
        ResponseHeadersMiddleware(ContentLengthMiddleware(app, settings.body_limit_bytes), settings.public_url),
        settings,
        bus,
    )
    yield


def create_app(settings: Settings) -> FastAPI:
    """Return the ASGI application; `app.state.gateway` is what its routes work with, and is set when it is opened."""
    app = FastAPI(
        title="Everloop",
        version="4.0.1",
        description=_DESCRIPTION,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # its redirect repeats the Host of the request; errors.py has one that does not
        telemetry=TELEMETRY,
        max_body_size=settings.body_limit_bytes,
    )
    errors.install(app)
    openapi.install(app)
    include_routers(app)
    app.add_middleware(TraceIdMiddleware)
    return app


def main() -> None:
    """Run until SIGTERM or SIGINT; requests in hand are finished first."""
    create_service(Settings()).run()


if __name__ == "__main__":
    main()
