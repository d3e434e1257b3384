"""The composition root of generation: its database, the providers, and the handlers of every message it answers."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import stamina

from services.generation.completions.image_memory import ImageMemory
from services.generation.deps import Deps
from services.generation.handlers import (
    blobs,
    deployments,
    environments,
    generations,
    models,
    projects,
    prompts,
    routing,
    tools,
    usage,
)
from services.generation.http.allowed_hosts import AllowedHosts
from services.generation.http.guarded_client import GuardedClient, OutboundLimits
from services.generation.log_writer import LogWriter
from services.generation.migrations import MIGRATIONS
from services.generation.models.redirects import ModelRedirects
from services.generation.projects.deletion import ProjectDeletion
from services.generation.projects.deployments import Deployer
from services.generation.projects.environments import EnvironmentSets
from services.generation.projects.invalidation import Invalidation
from services.generation.projects.project_cache import ProjectCache
from services.generation.providers.credentials import Credentials
from services.generation.providers.registry import IN_PROCESS, compatible_specs
from services.generation.providers.requests import Providers
from services.generation.providers.resilience.dispatch import Dispatch, RetryPolicy, log_retry
from services.generation.providers.transport.client import Client
from services.generation.settings import Settings
from services.generation.store import Stores, create_stores
from services.generation.store.secret_rotation import rotate_stored_secrets
from services.generation.tools.base import ToolServices
from services.generation.tools.runner import ToolRunner
from services.generation.usage.budgets import BudgetGuard
from services.generation.usage.ledger import Ledger
from services.generation.usage.spend_reader import SpendReader
from shared import mongo
from shared.audit import AuditOutbox
from shared.blobs import Blobs
from shared.bus import Bus
from shared.contracts.generation.routing import RoutingChanged
from shared.encryption import SecretBox
from shared.migrations import prepare
from shared.service import Probes, Service

_HANDLERS = (blobs, projects, environments, deployments, prompts, models, routing, generations, tools, usage)


def create_service(settings: Settings) -> Service:
    """Compose generation. Raises ValueError if `outbound_allow` has an entry that is none."""
    AllowedHosts(settings.outbound_allow)
    return Service("generation", settings, partial(_open, settings))


@asynccontextmanager
async def _open(settings: Settings, bus: Bus, probes: Probes) -> AsyncIterator[None]:
    database = mongo.connect(settings, bus.service)
    probes["database"] = partial(mongo.ping, database)
    stamina.instrumentation.set_on_retry_hooks([log_retry])
    secret_box, stores = SecretBox.from_settings(settings), create_stores(database)
    audit = AuditOutbox(database, bus)
    await prepare(
        database, MIGRATIONS, stores.prepare, audit.prepare, partial(rotate_stored_secrets, stores, secret_box)
    )
    async with AsyncExitStack() as stack:
        stack.callback(database.client.close)
        deps = await _create_deps(settings, bus, stores, audit, secret_box, stack)
        await deps.invalidation.subscribe()
        await deps.tool_runner.subscribe()
        await deps.budgets.subscribe()
        await bus.subscribe(RoutingChanged, partial(_invalidate_routing, deps))
        for handlers in _HANDLERS:
            handlers.router.attach(bus, deps)
        bus.supervise(deps.deletion.run(), "finish deletions of projects")
        bus.supervise(deps.ledger.run(), "write usage")
        bus.supervise(deps.budgets.run(), "announce budgets")
        stack.push_async_callback(deps.ledger.close)
        audit.start()
        yield


async def _create_deps(
    settings: Settings, bus: Bus, stores: Stores, audit: AuditOutbox, secret_box: SecretBox, stack: AsyncExitStack
) -> Deps:
    """Return what the handlers work with; `stack` closes the HTTP clients in it."""
    guarded_client = GuardedClient(settings.outbound_allow, _outbound_limits(settings))
    provider_client = Client(settings.provider_read_seconds, IN_PROCESS)
    stack.push_async_callback(provider_client.close)
    invalidation, log_writer = Invalidation(bus), LogWriter(bus)
    environment_sets = EnvironmentSets(stores.environments)
    deployer = Deployer(stores.deployments, invalidation, audit)
    providers = Providers(os.environ, settings.local_model_url, compatible_specs(settings.compatible_providers))
    credentials = Credentials(stores.credentials, secret_box, providers.find_key_address, audit)
    bus.track_task(credentials.bind_stored())  # beside the first calls: it is many small writes after an upgrade
    ledger = Ledger(stores.usage)
    budgets = BudgetGuard(stores.budgets, SpendReader(stores.usage), ledger, bus)
    ledger.on_written = budgets.compare_written
    services = ToolServices(guarded_client, settings.serpapi_url, settings.pinecone_url, settings.embeddings_url)
    return Deps(
        bus=bus,
        stores=stores,
        audit=audit,
        invalidation=invalidation,
        environments=environment_sets,
        deployments=deployer,
        deletion=ProjectDeletion(stores, invalidation, log_writer),
        project_cache=ProjectCache(stores, environment_sets, invalidation, deployer, audit),
        credentials=credentials,
        redirects=ModelRedirects(stores.redirects, audit),
        providers=providers,
        dispatch=Dispatch(provider_client, _retry_policy(settings)),
        log_writer=log_writer,
        blobs=Blobs(bus),
        guarded_client=guarded_client,
        image_memory=ImageMemory(),
        secret_box=secret_box,
        tool_runner=ToolRunner(stores.tools, secret_box, services, bus),
        ledger=ledger,
        budgets=budgets,
    )


def _retry_policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        total_seconds=settings.provider_total_seconds,
        tries=settings.provider_tries,
        max_concurrency=settings.provider_at_once,
        failure_threshold=settings.provider_failures,
        open_seconds=settings.provider_rest_seconds,
    )


def _outbound_limits(settings: Settings) -> OutboundLimits:
    return OutboundLimits(
        max_concurrency=settings.outbound_at_once,
        lookup_threads=settings.outbound_lookups_at_once,
        response_bytes=settings.outbound_bytes,
    )


def _invalidate_routing(deps: Deps, change: RoutingChanged | None) -> None:
    """Drop cached redirects and provider keys of the organisation; of all after a reconnect (None)."""
    for cache in (deps.redirects, deps.credentials):
        cache.invalidate(None if change is None else change.organisation)


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    create_service(Settings()).run()


if __name__ == "__main__":
    main()
