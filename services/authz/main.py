"""The authz process: settings, database, first organisation, handlers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.authz.bootstrap import create_first_organisation
from services.authz.callers import CallerCache
from services.authz.deps import Deps
from services.authz.handlers import access, keys, members
from services.authz.settings import Settings
from services.authz.store import Store
from shared import mongo
from shared.bus import Bus
from shared.service import Probe, run

_ROUTERS = (access.router, keys.router, members.router)


@asynccontextmanager
async def build(settings: Settings, bus: Bus) -> AsyncIterator[dict[str, Probe]]:
    """Open what authz needs."""
    database = mongo.connect(settings, bus.service)
    store = Store(database)
    await mongo.retry_until_available(store.prepare)
    await mongo.retry_until_available(partial(create_first_organisation, settings.bootstrap_file, store))
    callers = CallerCache(store.find_principal, settings)
    await callers.subscribe(bus)
    deps = Deps(bus=bus, store=store, callers=callers)
    for router in _ROUTERS:
        router.attach(bus, deps)

    async def bus_answers() -> bool:
        return bus.is_online

    try:
        yield {"bus": bus_answers, "database": partial(mongo.ping, database)}
    finally:
        database.client.close()


def main() -> None:
    """Run until SIGTERM."""
    settings = Settings()
    run("authz", settings, partial(build, settings))


if __name__ == "__main__":
    main()
