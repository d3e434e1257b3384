"""Calls to models: resolve, render, call, write down, answer."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.generation import claims, prompts
from services.generation.attempt import ABANDONED, DEFECT, Attempt
from services.generation.completion import Joined
from services.generation.deps import Deps
from services.generation.providers.base import Call
from shared.bus import Router
from shared.contracts.generations import Chat, Chunk, Complete, Generation, GenerationFailed
from shared.errors import Invalid, Problem

router: Router[Deps] = Router()


async def generate(command: Chat | Complete, deps: Deps) -> AsyncGenerator[Chunk | Generation, None]:
    """A chat or completion: chunks if a stream is wanted, then the whole. Every way it ends leaves a log a sample."""
    attempt = await _begin(command, deps)
    try:
        calls = await claims.redeem(_prepare(attempt, deps), command.organisation, deps.blobs)
        if command.stream:
            async with aclosing(_stream(attempt, calls, deps)) as chunks:
                async for chunk in chunks:
                    yield chunk
        else:
            await _complete(attempt, calls, deps)
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
    written = deps.logbook.begin(attempt.records())
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
        config = prompts.callable_config(command.config, command)
        resolved = await deps.catalogue.register(
            command.organisation, command.project, config, may_deploy=command.may_deploy
        )
    elif command.config_id is not None:
        resolved = await deps.catalogue.by_id(command.organisation, command.project, command.config_id)
    else:
        raise Invalid("Name a config: model_config, model_config_id, or a deployed one.")
    config = prompts.callable_config(resolved.version.config, command)
    return Attempt(command, resolved, config, environment)


def _prepare(attempt: Attempt, deps: Deps) -> list[Call]:
    """Render, and choose the provider: the calls whose answers are the samples, in their order."""
    sealed = attempt.command.sealed_keys
    attempt.request = prompts.request(attempt.command, attempt.config)
    calls = deps.providers.calls(attempt.request, deps.seal.open(sealed) if sealed else {})
    attempt.sending(calls[0])
    return calls


async def _complete(attempt: Attempt, calls: list[Call], deps: Deps) -> None:
    """All calls at once. One that fails does not stop the others: what they cost is cost."""

    async def one(first: int, call: Call) -> None:
        started = time.monotonic()
        try:
            attempt.completed(first, await deps.client.complete(call), started)
        except Problem as problem:
            for outcome in attempt.outcomes[first : first + call.request.samples]:
                outcome.problem, outcome.latency = problem, time.monotonic() - started

    if len(calls) == 1:
        await one(0, calls[0])
        return
    async with asyncio.TaskGroup() as group:
        for first, call in enumerate(calls):
            group.create_task(one(first, call))


async def _stream(attempt: Attempt, calls: list[Call], deps: Deps) -> AsyncGenerator[Chunk, None]:
    """Every sample's events as they come, among one another. Raises nothing of a provider's: it is noted."""
    arrived: asyncio.Queue[Chunk | None] = asyncio.Queue()

    async def one(index: int, call: Call) -> None:
        started, outcome = time.monotonic(), attempt.outcomes[index]
        try:
            async with aclosing(deps.client.stream(call)) as chunks:
                async for chunk in chunks:
                    outcome.joined = outcome.joined or Joined()
                    outcome.joined.add(chunk)
                    if chunk.text:
                        arrived.put_nowait(attempt.chunk(index, chunk.text))
        except Problem as problem:
            outcome.problem = problem
        finally:
            attempt.ended(index, call, started)
        if outcome.problem is None:
            arrived.put_nowait(attempt.last_chunk(index))

    samples = [asyncio.create_task(one(index, call)) for index, call in enumerate(calls)]
    for sample in samples:
        sample.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        running = len(samples)
        while running:
            chunk = await arrived.get()
            if chunk is None:
                running -= 1
            else:
                yield chunk
        await asyncio.gather(*samples)
    finally:
        for sample in samples:
            sample.cancel()
        await asyncio.gather(*samples, return_exceptions=True)


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
