"""Calls to models: resolve, render, call, write down, answer."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial

from services.generation import models
from services.generation.completions import image_inlining, remote_images, request_builder
from services.generation.completions.run import ABANDONED, DEFECT, Attempt
from services.generation.completions.sampling import Plan, Sampling
from services.generation.deps import Deps
from services.generation.models.request import CompletionRequest
from services.generation.providers.base import Call
from shared.bus import Router
from shared.contracts.generations import Chat, Chunk, Complete, Generation, GenerationFailed
from shared.errors import Invalid, Problem

router: Router[Deps] = Router()


async def generate(command: Chat | Complete, deps: Deps) -> AsyncGenerator[Chunk | Generation, None]:
    """A chat or completion: chunks if a stream is wanted, then the whole. Every way it ends leaves a log a sample."""
    attempt = await _begin(command, deps)
    try:
        plan = await _prepare(attempt, deps)
        sampling = Sampling(attempt, plan, deps.dispatch)
        if command.stream:
            async with aclosing(sampling.stream()) as chunks:
                async for chunk in chunks:
                    yield chunk
        else:
            await sampling.complete()
        await attempt.count()
    except Problem as problem:
        attempt.failed(problem)
    except (asyncio.CancelledError, GeneratorExit):
        attempt.stopped(ABANDONED)
        await deps.logbook.write_failure(attempt.records())
        raise
    except Exception:
        attempt.stopped(DEFECT)
        await deps.logbook.write_failure(attempt.records())
        raise
    failure = attempt.problem
    if failure is not None:
        await deps.logbook.write_failure(attempt.records(), _announcement(attempt, failure))
        raise failure
    written = deps.logbook.begin(await attempt.records())
    yield attempt.generation()  # the caller prepares its answer while the logs are synced
    await asyncio.shield(written)


router.streams(Chat)(generate)
router.streams(Complete)(generate)


async def _begin(command: Chat | Complete, deps: Deps) -> Attempt:
    """Project and config. What goes wrong here leaves no log: there is nothing it could belong to."""
    environment = None
    if command.deployed:
        resolved, environment = await deps.catalogue.deployed(
            command.organisation, command.project, command.environment
        )
    elif command.config is not None:
        config = request_builder.callable_config(command.config, command)
        resolved = await deps.catalogue.register(
            command.organisation, command.project, config, may_deploy=command.may_deploy, by=command.by
        )
    elif command.config_id is not None:
        resolved = await deps.catalogue.by_id(command.organisation, command.project, command.config_id)
    else:
        raise Invalid("Name a config: model_config, model_config_id, or a deployed one.")
    config = request_builder.callable_config(resolved.version.config, command)
    return Attempt(command, resolved, config, environment)


async def _prepare(attempt: Attempt, deps: Deps) -> Plan:
    """Run tools, render, and choose the models."""
    command = attempt.command
    request = attempt.request = await _render(attempt, deps)
    keys = await deps.credentials.of(command.organisation, command.sealed_keys)
    served, *fallbacks = await deps.routing.configs(command.organisation, request.config)
    keep = partial(deps.blobs.keep, command.organisation, brief=not command.save)
    by_address = remote_images.ByAddress(deps.outbound, keep)

    async def instead() -> AsyncGenerator[Call, None]:
        for config in fallbacks:
            with suppress(Problem):  # it cannot do this, there is no key, an image is not there: no help
                yield (await calls(replace(request, config=config, samples=1)))[0]

    async def refuse(request: CompletionRequest) -> None:
        await image_inlining.check(deps.providers.calls(request, keys), command.organisation, deps.blobs)

    async def calls(request: CompletionRequest) -> list[Call]:
        if deps.providers.row(request.config).inline_images:
            request = await by_address.inlined(request, refuse)
        if deps.providers.needs_budget(request):
            request = replace(request, rest_tokens=await asyncio.to_thread(models.rest_tokens, request))
        return await image_inlining.redeem(deps.providers.calls(request, keys), command.organisation, deps.blobs)

    return Plan(await calls(replace(request, config=served)), instead)


async def _render(attempt: Attempt, deps: Deps) -> CompletionRequest:
    command, config = attempt.command, attempt.config
    if config.tools:
        inline = await deps.toolbox.inline(command.organisation, config.tools)
        config = config.model_copy(update={"tools": inline})
    if tool_calls := request_builder.calls(command, config):
        attempt.tool_results = await deps.toolbox.run_all(command.organisation, tool_calls)
    results = {tool.signature: tool.result for tool in attempt.tool_results}
    return request_builder.request(command, config, results)


def _announcement(attempt: Attempt, problem: Problem) -> GenerationFailed:
    return GenerationFailed(
        organisation=attempt.command.organisation,
        project_id=attempt.resolved.project.id,
        log_ids=[
            log_id for log_id, outcome in zip(attempt.command.log_ids, attempt.outcomes, strict=True) if outcome.problem
        ],
        status=problem.status,
        origin=problem.origin,
        kind="chat" if isinstance(attempt.command, Chat) else "complete",
    )
