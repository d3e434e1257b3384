"""Answers chats and completions: load the config, plan the calls, sample, write the logs, reply."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from services.generation.completions import answers, bookings, records, request_builder
from services.generation.completions.planner import Plan, Planner
from services.generation.completions.remote_images import RemoteImages
from services.generation.completions.run import CALLER_DISCONNECTED, INTERNAL_ERROR, GenerationRun
from services.generation.completions.sampling import Sampler
from services.generation.deps import Deps
from services.generation.models.request import ModelRequest
from services.generation.projects.project_scope import limit_config, limit_project
from shared.bus import Router
from shared.contracts.generation.generations import Chat, Chunk, Complete, Generation
from shared.contracts.generation.projects import ResolvedConfig
from shared.contracts.logs import LogRecord
from shared.contracts.permissions import CHANGE_DEPLOYMENTS
from shared.errors import Invalid, Problem
from shared.permissions import allows

router: Router[Deps] = Router()


async def generate(command: Chat | Complete, deps: Deps) -> AsyncGenerator[Chunk | Generation, None]:
    """Yield chunks if `command.stream`, then the whole generation. However it ends, it leaves one log a sample."""
    run = await _load(command, deps)
    try:
        await deps.budgets.check(bookings.caller(run))
        sampler = Sampler(run, await _plan(run, deps), deps.dispatch)
        if command.stream:
            async with aclosing(sampler.stream()) as chunks:
                async for chunk in chunks:
                    yield chunk
        else:
            await sampler.complete()
        await run.count_tokens()
    except Problem as problem:
        run.fail(problem)
    except (asyncio.CancelledError, GeneratorExit, Exception) as error:
        await _write_aborted(run, error, deps)
        raise
    finally:
        deps.image_memory.release(run)
    booked = deps.ledger.book(bookings.bookings(run)) if run.problem is None else None
    written = await _write(run, deps)
    yield answers.generation(run)  # the gateway prepares its response while logs and books are synced
    await asyncio.shield(written)
    if booked:
        await booked.wait()


router.streams(Chat)(generate)
router.streams(Complete)(generate)


async def _load(command: Chat | Complete, deps: Deps) -> GenerationRun:
    """Return a run with project and config. What is raised here leaves no log: there is nothing it could belong to, or
    there would be too many."""
    request_builder.check_samples(command)
    resolved, environment = await _resolve(command, deps)
    config = request_builder.model_config(resolved.version.config, command)
    return GenerationRun(command, resolved, config, environment)


async def _resolve(command: Chat | Complete, deps: Deps) -> tuple[ResolvedConfig, str | None]:
    """Return project and version, and the environment's name if the config is the one deployed there."""
    organisation, principal = command.organisation, command.principal
    create = command.config is not None and not command.deployed
    project = await limit_project(deps.project_cache, organisation, principal, command.project, create=create)
    if command.deployed:
        return await deps.project_cache.resolve_deployed(organisation, project, command.environment)
    if command.config is not None:
        config = request_builder.model_config(command.config, command)
        may_deploy = allows(principal, CHANGE_DEPLOYMENTS)
        resolved = await deps.project_cache.register(
            organisation, project, config, may_deploy=may_deploy, principal=principal
        )
        return resolved, None
    if command.config_id is not None:
        await limit_config(deps.project_cache, organisation, principal, command.config_id)
        return await deps.project_cache.resolve(organisation, project, command.config_id), None
    raise Invalid("Name a config: model_config, model_config_id, or a deployed one.")


async def _plan(run: GenerationRun, deps: Deps) -> Plan:
    """Populate the template and prepare the provider requests."""
    command = run.command
    request = run.request = await _request(run, deps)
    keys = await deps.credentials.get_keys(command.organisation, command.sealed_keys)
    configs = await deps.redirects.resolve(command.organisation, request.config)
    store_blobs = partial(deps.blobs.store, command.organisation, temporary=not command.save)
    images = RemoteImages(deps.guarded_client, command.organisation, store_blobs)
    acquire = partial(deps.image_memory.acquire, run, command.organisation)
    return await Planner(command.organisation, keys, deps.providers, deps.blobs, images, acquire).plan(request, configs)


async def _request(run: GenerationRun, deps: Deps) -> ModelRequest:
    """Run the tools called in the template and return the populated request."""
    command, config = run.command, run.config
    if config.tools:
        inline = await deps.tool_runner.resolve_links(command.organisation, config.tools)
        config = config.model_copy(update={"tools": inline})
    if references := request_builder.tool_references(command, config):
        run.tool_results = await deps.tool_runner.run_all(command.organisation, references)
    tool_results = {tool.signature: tool.result for tool in run.tool_results}
    request = request_builder.build_request(command, config, tool_results)
    request_builder.check_samples(command, request)
    return request


async def _write(run: GenerationRun, deps: Deps) -> "asyncio.Task[None]":
    """Start to append the run's logs; the task ends when they are durable. Raises the run's problem after its logs are
    written if it has one."""
    if (problem := run.problem) is not None:
        failed = records.failed_event(run, problem)
        await deps.log_writer.write_failure(run.command.organisation, _book_failure(run, deps), failed)
        raise problem
    return deps.log_writer.start_append(await records.log_records(run))


async def _write_aborted(run: GenerationRun, error: BaseException, deps: Deps) -> None:
    """Write the logs of a run that was cancelled, closed by its caller, or ended by an exception of ours."""
    disconnected = isinstance(error, asyncio.CancelledError | GeneratorExit)
    run.abort(CALLER_DISCONNECTED if disconnected else INTERNAL_ERROR)
    await deps.log_writer.write_failure(run.command.organisation, _book_failure(run, deps))


async def _book_failure(run: GenerationRun, deps: Deps) -> list[LogRecord]:
    """Book what a failed run used, and return its log records."""
    await deps.ledger.book(await bookings.count_bookings(run)).wait()
    return await records.log_records(run)
