"""The generation service: projects, config versions, and calls to models."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

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
from services.generation.http.guarded_client import GuardedClient
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
from services.generation.secret_rotation import rotate_stored_secrets
from services.generation.settings import Settings
from services.generation.store import create_stores
from services.generation.tools.base import ToolServices
from services.generation.tools.runner import ToolRunner
from shared import mongo
from shared.blobs import Blobs
from shared.bus import Bus
from shared.contracts.generation.routing import RoutingChanged
from shared.encryption import SecretBox
from shared.migrations import migrate
from shared.service import Build, Probe, run


def building(settings: Settings) -> Build:
    """How the service is put together. It takes no request before its indexes exist."""

    @asynccontextmanager
    async def build(bus: Bus) -> AsyncIterator[dict[str, Probe]]:
        database = mongo.connect(settings, bus.service)
        stamina.instrumentation.set_on_retry_hooks([log_retry])
        secret_box, kept = SecretBox.of(settings), create_stores(database)
        await mongo.retry_until_available(partial(migrate, database, MIGRATIONS))
        await mongo.retry_until_available(kept.prepare)
        await mongo.retry_until_available(partial(rotate_stored_secrets, kept, secret_box))
        guarded_client = GuardedClient(settings.outbound_allow)
        services = ToolServices(guarded_client, settings.serpapi_url, settings.pinecone_url, settings.embeddings_url)
        invalidation = Invalidation(bus)
        environment_sets = EnvironmentSets(kept.environments)
        deployer = Deployer(kept.deployments, invalidation)
        client = Client(settings.provider_read_seconds, IN_PROCESS)
        log_writer = LogWriter(bus)
        deps = Deps(
            bus=bus,
            stores=kept,
            invalidation=invalidation,
            environments=environment_sets,
            deployments=deployer,
            deletion=ProjectDeletion(kept, invalidation, log_writer),
            project_cache=ProjectCache(kept, environment_sets, invalidation, deployer),
            credentials=Credentials(kept.credentials, secret_box),
            redirects=ModelRedirects(kept.redirects),
            providers=Providers(os.environ, settings.local_model_url, compatible_specs(settings.compatible_providers)),
            dispatch=Dispatch(client, _retry_policy(settings)),
            log_writer=log_writer,
            blobs=Blobs(bus),
            guarded_client=guarded_client,
            secret_box=secret_box,
            tool_runner=ToolRunner(kept.tools, secret_box, services, bus),
        )
        await invalidation.subscribe()
        await deps.tool_runner.subscribe()
        await bus.subscribe(RoutingChanged, lambda change: _forget(deps, change))
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
            await guarded_client.close()
            database.client.close()

    return build


def _retry_policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        total_seconds=settings.provider_total_seconds,
        tries=settings.provider_tries,
        max_concurrency=settings.provider_at_once,
        failure_threshold=settings.provider_failures,
        open_seconds=settings.provider_rest_seconds,
    )


def _forget(deps: Deps, change: RoutingChanged | None) -> None:
    for memory in (deps.redirects, deps.credentials):
        memory.invalidate(None if change is None else change.organisation)


def main() -> None:
    """Run until stopped."""
    settings = Settings()
    run("generation", settings, building(settings))


if __name__ == "__main__":
    main()
