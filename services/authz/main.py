"""The authz process: settings, database, first organisation, handlers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.authz.bootstrap import create_first_organisation
from services.authz.callers import CallerCache
from services.authz.deps import Deps
from services.authz.handlers import authentication, keys, members
from services.authz.key_uses import KeyUses
from services.authz.migrations import MIGRATIONS
from services.authz.settings import Settings
from services.authz.store import create_stores
from shared import mongo
from shared.bus import Bus
from shared.migrations import prepare
from shared.service import Probes, Service

_ROUTERS = (authentication.router, keys.router, members.router)


def create_service(settings: Settings) -> Service:
    """Compose authz."""
    return Service("authz", settings, partial(_open, settings))


@asynccontextmanager
async def _open(settings: Settings, bus: Bus, probes: Probes) -> AsyncIterator[None]:
    database = mongo.connect(settings, bus.service)
    probes["database"] = partial(mongo.ping, database)
    stores = create_stores(database)
    await prepare(
        database, MIGRATIONS, stores.prepare, partial(create_first_organisation, settings.bootstrap_file, stores)
    )
    callers = CallerCache(stores.principals.find_by_key, settings)
    await callers.subscribe(bus)
    deps = Deps(bus=bus, stores=stores, callers=callers, key_uses=KeyUses(stores.keys))
    bus.supervise(deps.key_uses.write_regularly(), "write when keys were used last")
    for router in _ROUTERS:
        router.attach(bus, deps)
    try:
        yield
    finally:
        await deps.key_uses.write()
        database.client.close()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    create_service(Settings()).run()


if __name__ == "__main__":
    main()
