"""The generation service: projects, config versions, and calls to models."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.generation.catalogue import Catalogue
from services.generation.deps import Deps
from services.generation.handlers import generations, projects
from services.generation.logbook import Logbook
from services.generation.providers.client import Client
from services.generation.providers.registry import IN_PROCESS, Providers
from services.generation.settings import Settings
from services.generation.store import Store
from shared import mongo
from shared.blobs import Blobs
from shared.bus import Bus
from shared.sealing import Seal
from shared.service import Build, Probe, run


def building(settings: Settings) -> Build:
    """How the service is put together. It takes no request before its indexes exist."""

    @asynccontextmanager
    async def build(bus: Bus) -> AsyncIterator[dict[str, Probe]]:
        database = mongo.connect(settings, bus.service)
        store = Store(database)
        await mongo.insist(store.prepare)
        client = Client(settings.provider_read_seconds, IN_PROCESS)
        deps = Deps(
            catalogue=Catalogue(store),
            providers=Providers(os.environ, settings.local_model_url),
            client=client,
            logbook=Logbook(bus),
            blobs=Blobs(bus),
            seal=Seal(settings.secret),
        )
        for router in (projects.router, generations.router):
            router.attach(bus, deps)

        async def bus_answers() -> bool:
            return bus.is_online

        async def database_answers() -> bool:
            return await mongo.ping(database)

        try:
            yield {"bus": bus_answers, "database": database_answers}
        finally:
            await client.close()
            database.client.close()

    return build


def main() -> None:
    """Run until stopped."""
    settings = Settings()
    run("generation", settings, building(settings))


if __name__ == "__main__":
    main()
