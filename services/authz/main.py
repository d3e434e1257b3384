"""The authz process: settings, database, first organisation, handlers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.authz.bootstrap import first_organisation
from services.authz.callers import CallerCache
from services.authz.deps import Deps
from services.authz.handlers import access, keys, members
from services.authz.migrations import MIGRATIONS
from services.authz.settings import Settings
from services.authz.store import Store
from shared import mongo
from shared.bus import Bus
from shared.migrations import prepare
from shared.service import Probes, Service

_ROUTERS = (access.router, keys.router, members.router)


def create_service(settings: Settings) -> Service:
    """Compose authz."""
    return Service("authz", settings, partial(_open, settings))


@asynccontextmanager
async def _open(settings: Settings, bus: Bus) -> AsyncIterator[Probes]:
    database = mongo.connect(settings, bus.service)
    store = Store(database)
    await prepare(database, MIGRATIONS, store.prepare, partial(first_organisation, settings.bootstrap_file, store))
    callers = CallerCache(store.find_caller, settings)
    await callers.listen(bus)
    deps = Deps(bus=bus, store=store, callers=callers)
    for router in _ROUTERS:
        router.attach(bus, deps)
    try:
        yield {"database": partial(mongo.ping, database)}
    finally:
        database.client.close()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    create_service(Settings()).run()


if __name__ == "__main__":
    main()
