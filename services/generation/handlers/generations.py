"""Calls to models: resolve, render, call, write down, answer."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial

from services.generation import models
from services.generation.completions import image_inlining, remote_images, request_builder
from services.generation.completions.run import CALLER_LEFT, DEFECT, GenerationRun
from services.generation.completions.sampling import Plan, Sampling
from services.generation.deps import Deps
from services.generation.models.request import ModelRequest
from services.generation.providers.base import PreparedRequest
from shared.bus import Router
from shared.contracts.generations import Chat, Chunk, Complete, Generation, GenerationFailed
from shared.errors import Invalid, Problem
from shared.permissions import CHANGE_DEPLOYMENTS, allows

router: Router[Deps] = Router()


async def generate(command: Chat | Complete, deps: Deps) -> AsyncGenerator[Chunk | Generation, None]:
    """A chat or completion: chunks if a stream is wanted, then the whole. Every way it ends leaves a log a sample."""
    run = await _begin(command, deps)
    try:
        plan = await _prepare(run, deps)
        sampling = Sampling(run, plan, deps.dispatch)
        if command.stream:
            async with aclosing(sampling.stream()) as chunks:
                async for chunk in chunks:
                    yield chunk
        else:
            await sampling.complete()
        await run.count()
    except Problem as problem:
        run.fail(problem)
    except (asyncio.CancelledError, GeneratorExit):
        run.abort(CALLER_LEFT)
        await deps.log_writer.write_failure(run.records())
        raise
    except Exception:
        run.abort(DEFECT)
        await deps.log_writer.write_failure(run.records())
        raise
    failure = run.problem
    if failure is not None:
        await deps.log_writer.write_failure(run.records(), _announcement(run, failure))
        raise failure
    written = deps.log_writer.begin(await run.records())
    yield run.generation()  # the caller prepares its answer while the logs are synced
    await asyncio.shield(written)


router.streams(Chat)(generate)
router.streams(Complete)(generate)


async def _begin(command: Chat | Complete, deps: Deps) -> GenerationRun:
    """Project and config. What goes wrong here leaves no log: there is nothing it could belong to."""
    environment = None
    if command.deployed:
        resolved, environment = await deps.project_cache.resolve_deployed(
            command.organisation, command.project, command.environment
        )
    elif command.config is not None:
        config = request_builder.callable_config(command.config, command)
        resolved = await deps.project_cache.register(
            command.organisation,
            command.project,
            config,
            may_deploy=command.may_deploy or allows(command.principal, CHANGE_DEPLOYMENTS),
            actor=command.actor,
        )
    elif command.config_id is not None:
        resolved = await deps.project_cache.resolve(command.organisation, command.project, command.config_id)
    else:
        raise Invalid("Name a config: model_config, model_config_id, or a deployed one.")
    config = request_builder.callable_config(resolved.version.config, command)
    return GenerationRun(command, resolved, config, environment)


async def _prepare(run: GenerationRun, deps: Deps) -> Plan:
    """Run tools, render, and choose the models."""
    command = run.command
    request = run.request = await _render(run, deps)
    keys = await deps.credentials.of(command.organisation, command.sealed_keys)
    served, *fallbacks = await deps.redirects.resolve(command.organisation, request.config)
    keep = partial(deps.blobs.keep, command.organisation, brief=not command.save)
    by_address = remote_images.ByAddress(deps.guarded_client, keep)

    async def fallback_requests() -> AsyncGenerator[PreparedRequest, None]:
        for config in fallbacks:
            with suppress(Problem):  # it cannot do this, there is no key, an image is not there: no help
                yield (await calls(replace(request, config=config, samples=1)))[0]

    async def refuse(request: ModelRequest) -> None:
        await image_inlining.check(deps.providers.calls(request, keys), command.organisation, deps.blobs)

    async def calls(request: ModelRequest) -> list[PreparedRequest]:
        if deps.providers.row(request.config).inline_images:
            request = await by_address.inlined(request, refuse)
        if deps.providers.needs_budget(request):
            request = replace(
                request, remaining_output_tokens=await asyncio.to_thread(models.count_remaining_output_tokens, request)
            )
        return await image_inlining.redeem(deps.providers.calls(request, keys), command.organisation, deps.blobs)

    return Plan(await calls(replace(request, config=served)), fallback_requests)


async def _render(run: GenerationRun, deps: Deps) -> ModelRequest:
    command, config = run.command, run.config
    if config.tools:
        inline = await deps.tool_runner.resolve_links(command.organisation, config.tools)
        config = config.model_copy(update={"tools": inline})
    if tool_calls := request_builder.calls(command, config):
        run.tool_results = await deps.tool_runner.run_all(command.organisation, tool_calls)
    results = {tool.signature: tool.result for tool in run.tool_results}
    return request_builder.request(command, config, results)


def _announcement(run: GenerationRun, problem: Problem) -> GenerationFailed:
    return GenerationFailed(
        organisation=run.command.organisation,
        actor=run.command.actor,
        project_id=run.resolved.project.id,
        log_ids=[log_id for log_id, result in zip(run.command.log_ids, run.results, strict=True) if result.problem],
        status=problem.status,
        origin=problem.origin,
        kind="chat" if isinstance(run.command, Chat) else "complete",
    )
