"""The authz process: settings, database, first organisation, handlers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.authz.access_changes import AccessChanges
from services.authz.bootstrap import create_first_organisation
from services.authz.callers import CallerCache
from services.authz.credentials.passwords import PasswordHashing
from services.authz.deps import Deps
from services.authz.handlers import (
    account,
    audit,
    authentication,
    invites,
    keys,
    members,
    oidc,
    organisations,
    people,
    sessions,
)
from services.authz.last_uses import LastUses
from services.authz.mail.mailer import Mailer
from services.authz.migrations import MIGRATIONS
from services.authz.oidc.provider import OidcProvider
from services.authz.oidc.sign_in import OidcSignIn
from services.authz.settings import Settings
from services.authz.sign_in.accounts import Accounts
from services.authz.sign_in.attempts import Attempts
from services.authz.sign_in.failures import FailedSignIns
from services.authz.sign_in.joining import Joining
from services.authz.sign_in.sessions import BrowserSessions
from services.authz.store import Stores, create_stores
from services.authz.store.rate_limits import RateLimitStore
from shared import mongo
from shared.audit import AuditOutbox
from shared.bus import Bus, consume_events
from shared.contracts.audit import AuditRecorded
from shared.migrations import prepare
from shared.service import Probes, Service

_ROUTERS = (
    authentication.router,
    keys.router,
    members.router,
    sessions.router,
    account.router,
    invites.router,
    organisations.router,
    people.router,
    oidc.router,
    audit.router,
)


def create_service(settings: Settings) -> Service:
    """Compose authz."""
    return Service("authz", settings, partial(_open, settings))


@asynccontextmanager
async def _open(settings: Settings, bus: Bus, probes: Probes) -> AsyncIterator[None]:
    database = mongo.connect(settings, bus.service)
    rate_limits = RateLimitStore(settings, bus.service)
    probes["database"] = partial(mongo.ping, database)
    stores = create_stores(database)
    outbox = AuditOutbox(database, bus)
    await prepare(
        database,
        MIGRATIONS,
        stores.prepare,
        outbox.prepare,
        partial(create_first_organisation, settings.bootstrap_file, stores),
    )
    deps = _deps(settings, bus, stores, outbox, rate_limits)
    await deps.callers.subscribe(bus)
    outbox.start()
    consume_events(bus, AuditRecorded, audit.READER, partial(audit.store_batch, deps=deps))
    bus.supervise(deps.key_uses.write_regularly(), "write when keys were used last")
    bus.supervise(deps.session_uses.write_regularly(), "write when sessions were used last")
    for router in _ROUTERS:
        router.attach(bus, deps)
    try:
        yield
    finally:
        await deps.key_uses.write()
        await deps.session_uses.write()
        rate_limits.close()
        database.client.close()


def _deps(settings: Settings, bus: Bus, stores: Stores, outbox: AuditOutbox, rate_limits: RateLimitStore) -> Deps:
    callers = CallerCache(
        stores.principals.find_by_key,
        partial(stores.principals.find_by_session, idle=settings.session_idle),
        settings,
    )
    changes = AccessChanges(bus, callers)
    passwords, attempts = PasswordHashing(), Attempts(rate_limits)
    sessions = BrowserSessions(stores, outbox, changes, settings)
    accounts, joining = Accounts(stores, outbox, passwords, attempts, sessions), Joining(stores, outbox, changes)
    provider = OidcProvider(settings)
    return Deps(
        bus=bus,
        settings=settings,
        stores=stores,
        audit=outbox,
        callers=callers,
        changes=changes,
        key_uses=LastUses(stores.keys.set_last_used),
        session_uses=LastUses(stores.sessions.set_last_used),
        passwords=passwords,
        attempts=attempts,
        rate_limits=rate_limits,
        sessions=sessions,
        failures=FailedSignIns(stores, outbox),
        accounts=accounts,
        joining=joining,
        mailer=Mailer(settings),
        oidc=OidcSignIn(provider, stores, accounts, joining, sessions),
        provider=provider,
    )


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    create_service(Settings()).run()


if __name__ == "__main__":
    main()
