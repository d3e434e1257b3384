"""The generation service: projects, config versions, and calls to models."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.generation.catalogue import Catalogue
from services.generation.credentials import Credentials
from services.generation.deps import Deps
from services.generation.handlers import generations, models, projects, prompts, routing, tools
from services.generation.logbook import Logbook
from services.generation.outbound import Outbound
from services.generation.providers.calls import Providers
from services.generation.providers.client import Client
from services.generation.providers.dispatch import Dispatch, Patience
from services.generation.providers.registry import IN_PROCESS, compatible
from services.generation.routing import Routing
from services.generation.settings import Settings
from services.generation.store import CredentialStore, RedirectStore, Store, ToolStore
from services.generation.toolbox import Toolbox
from services.generation.tools.base import World
from shared import mongo
from shared.bus import Bus
from shared.contracts.routing import RoutingChanged
from shared.sealing import Seal
from shared.service import Build, Probe, run


def building(settings: Settings) -> Build:
    """How the service is put together. It takes no request before its indexes exist."""

    @asynccontextmanager
    async def build(bus: Bus) -> AsyncIterator[dict[str, Probe]]:
        database = mongo.connect(settings, bus.service)
        seal = Seal(settings.secret)
        store, redirects, credentials = Store(database), RedirectStore(database), CredentialStore(database)
        tool_store = ToolStore(database)
        for collections in (store, redirects, credentials, tool_store):
            await mongo.insist(collections.prepare)
        outbound = Outbound(settings.outbound_allow)
        world = World(outbound, settings.serpapi_url, settings.pinecone_url, settings.embeddings_url)
        toolbox = Toolbox(tool_store, seal, world, bus)
        await toolbox.listen()
        client = Client(settings.provider_read_seconds, IN_PROCESS)
        deps = Deps(
            bus=bus,
            catalogue=Catalogue(store),
            credentials=Credentials(credentials, seal),
            routing=Routing(redirects),
            providers=Providers(os.environ, settings.local_model_url, compatible(settings.compatible_providers)),
            dispatch=Dispatch(client, _patience(settings)),
            logbook=Logbook(bus),
            seal=seal,
            tools=tool_store,
            toolbox=toolbox,
        )
        handlers = (projects, prompts, models, routing, generations, tools)
        for router in (handler.router for handler in handlers):
            router.attach(bus, deps)
        await bus.hear(RoutingChanged, lambda change: _forget(deps, change))

        async def bus_answers() -> bool:
            return bus.is_online

        async def database_answers() -> bool:
            return await mongo.ping(database)

        try:
            yield {"bus": bus_answers, "database": database_answers}
        finally:
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
