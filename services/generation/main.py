"""The generation service: projects, config versions, and calls to models."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import stamina

from services.generation.deps import Deps
from services.generation.handlers import (
    deployments,
    environments,
    generations,
    models,
    projects,
    prompts,
    routing,
    tools,
)
from services.generation.http.guarded_client import Outbound
from services.generation.log_writer import Logbook
from services.generation.models.redirects import Routing
from services.generation.projects.deletion import Deletion
from services.generation.projects.deployments import Deployments
from services.generation.projects.invalidation import Changes
from services.generation.projects.project_cache import Catalogue
from services.generation.providers.credentials import Credentials
from services.generation.providers.registry import IN_PROCESS, compatible
from services.generation.providers.requests import Providers
from services.generation.providers.resilience.dispatch import Dispatch, Patience, note_retry
from services.generation.providers.transport.client import Client
from services.generation.settings import Settings
from services.generation.store import stores
from services.generation.tools.base import World
from services.generation.tools.runner import Toolbox
from shared import mongo
from shared.blobs import Blobs
from shared.bus import Bus
from shared.contracts.routing import RoutingChanged
from shared.sealing import Seal
from shared.service import Build, Probe, run


def building(settings: Settings) -> Build:
    """How the service is put together. It takes no request before its indexes exist."""

    @asynccontextmanager
    async def build(bus: Bus) -> AsyncIterator[dict[str, Probe]]:
        database = mongo.connect(settings, bus.service)
        stamina.instrumentation.set_on_retry_hooks([note_retry])
        seal, kept = Seal(settings.secret), stores(database)
        await mongo.insist(kept.prepare)
        outbound = Outbound(settings.outbound_allow)
        world = World(outbound, settings.serpapi_url, settings.pinecone_url, settings.embeddings_url)
        changes = Changes(bus)
        deploying = Deployments(kept.deployments, changes)
        client = Client(settings.provider_read_seconds, IN_PROCESS)
        logbook = Logbook(bus)
        deps = Deps(
            bus=bus,
            stores=kept,
            changes=changes,
            deployments=deploying,
            deletion=Deletion(kept, changes, logbook),
            catalogue=Catalogue(kept, changes, deploying),
            credentials=Credentials(kept.credentials, seal),
            routing=Routing(kept.redirects),
            providers=Providers(os.environ, settings.local_model_url, compatible(settings.compatible_providers)),
            dispatch=Dispatch(client, _patience(settings)),
            logbook=logbook,
            blobs=Blobs(bus),
            outbound=outbound,
            seal=seal,
            toolbox=Toolbox(kept.tools, seal, world, bus),
        )
        await changes.listen()
        await deps.toolbox.listen()
        await bus.hear(RoutingChanged, lambda change: _forget(deps, change))
        handlers = (projects, environments, deployments, prompts, models, routing, generations, tools)
        for router in (handler.router for handler in handlers):
            router.attach(bus, deps)
        deleting = asyncio.create_task(deps.deletion.run(), name="finish deletions")

        async def bus_answers() -> bool:
            return bus.is_online

        async def database_answers() -> bool:
            return await mongo.ping(database)

        try:
            yield {"bus": bus_answers, "database": database_answers}
        finally:
            deleting.cancel()
            await client.close()
            await outbound.close()
            database.client.close()

    return build


def _patience(settings: Settings) -> Patience:
    return Patience(
        total_seconds=settings.provider_total_seconds,
        tries=settings.provider_tries,
        at_once=settings.provider_at_once,
        failures=settings.provider_failures,
        rest_seconds=settings.provider_rest_seconds,
    )


def _forget(deps: Deps, change: RoutingChanged | None) -> None:
    for memory in (deps.routing, deps.credentials):
        memory.forget(None if change is None else change.organisation)


def main() -> None:
    """Run until stopped."""
    settings = Settings()
    run("generation", settings, building(settings))


if __name__ == "__main__":
    main()
