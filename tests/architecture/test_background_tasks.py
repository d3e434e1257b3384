"""Every task of the event loop has somebody who sees its end: `bus.supervise`, or the code that started it."""

import ast
from collections.abc import Iterator

from tests.architecture.tree import ROOT, sources

STARTS = {"create_task", "ensure_future", "run_coroutine_threadsafe"}

AWAITED = {
    "services/gateway/requests/rate_limits.py:_request_lease": "some requests, which await it; it logs problems",
    "services/generation/providers/transport/connections.py:discard": "one connection; `aclose` waits for it",
    "services/gateway/disconnect.py:cancel_on_disconnect": "one request; the function waits for it",
    "services/gateway/disconnect.py:_wait_for_task_or_disconnect": "one request; cancelled when the function ends",
    "services/generation/completions/sampling.py:stream": "one request; gathered before the generator ends",
    "services/generation/log_writer.py:_start": "one request, which it outlives; a callback logs its error",
    "services/generation/usage/spend_reader.py:read": "some requests, which await it",
    "services/logging/read_barrier.py:_fresh_progress": "some requests, which await it",
    "shared/appender.py:append": "some requests, which wait for its results; its errors are raised in them",
    "shared/bus/connection.py:close": "the end of the process; the function waits for it",
    "shared/bus/connection.py:supervise": "the process; its end ends the process",
    "shared/bus/connection.py:track_task": "one request; it replies with its error, and `close` waits for it",
    "shared/bus/jetstream/consumer.py:_process": "one batch; the supervised reader awaits it",
    "shared/bus/jetstream/jobs.py:_run_handler": "one job; the delivery's task awaits it",
    "shared/bus/jetstream/jobs.py:_start_delivery": "one job; a callback logs its error",
    "shared/bus/streamed_calls.py:start": "one request; it replies with its error, and the request's task waits for it",
    "shared/bus/transport.py:close_for_good": "the end of a connection; the function waits for it",
    "shared/cache.py:_request": "some requests, which await it; a callback logs its error",
    "shared/migrations.py:_run": "one run of migrations; cancelled and awaited at its end",
    "shared/service.py:_run": "the process, which ends with them",
}
"""By file and function: what a task is for, and who sees its end. Tasks of an `asyncio.TaskGroup` are awaited by it."""


def started_tasks() -> Iterator[str]:
    """The functions that start a task outside a task group."""
    for path in sources("services", "shared"):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            groups = {
                item.optional_vars.id
                for block in ast.walk(function)
                if isinstance(block, ast.AsyncWith)
                for item in block.items
                if isinstance(item.optional_vars, ast.Name)
            }
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in STARTS:
                    owner = call.func.value
                    if not (isinstance(owner, ast.Name) and owner.id in groups):
                        yield f"{path.relative_to(ROOT)}:{function.name}"


def test_a_task_is_supervised_or_awaited_by_who_starts_it() -> None:
    found = set(started_tasks())
    assert found - AWAITED.keys() == set(), "run it by bus.supervise; or say here who awaits it"
    assert AWAITED.keys() - found == set(), "nothing is started there any more"
