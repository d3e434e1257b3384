"""Fuzzes a stack of its own, and prints each finding with the command that shows it, while it lasts.

`make fuzz` runs every role in turn for an equal share of `--seconds`; `make fuzz ARGS="--role Member --examples 100"`
sends so many random cases to each operation as one role, and ends. The same seed generates the same cases, as far as no
ids of answers are in them.
"""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from shared.contracts.permissions import ROLES
from tests import processes
from tests import stack as stacks
from tests.fake_servers import openai
from tests.fuzz.callers import add_callers
from tests.fuzz.engine import PHASES, Extent, Run
from tests.stack_environment import stack_settings, start_provider_servers


def main(arguments: list[str]) -> int:
    """Return 1 if something was found, else 0."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="of all roles together (default: %(default)s)")
    parser.add_argument("--examples", type=int, help="random cases of an operation, instead of --seconds")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="default: a new one")
    parser.add_argument("--role", choices=ROLES, action="append", help="may stand several times (default: every role)")
    parser.add_argument("--phase", choices=PHASES, action="append", help="may stand several times (default: all)")
    options = parser.parse_args(arguments)
    roles = options.role or ROLES
    extent = Extent(
        phases=tuple(options.phase or PHASES),
        examples=options.examples or 20,
        seed=options.seed,
        seconds=None if options.examples else max(1, options.seconds // len(roles)),
    )
    processes.mark()
    with tempfile.TemporaryDirectory(prefix="everloop-fuzz-") as folder:
        environment = stack_settings(openai.start(), start_provider_servers())
        stack = stacks.start(Path(folder) / "stack", "--no-model", environment=environment)
        try:
            callers = add_callers(stack)
            found = [_fuzz(Run(stack.base_url, callers[role], extent)) for role in roles]
            logged = _logged_errors(stack)
            print("Errors in the logs of the services:", *logged or ["none"], sep="\n  ")
            return int(any(found) or bool(logged))
        finally:
            stack.stop()
            processes.end_marked()


def _fuzz(run: Run) -> int:
    """Print what a run finds, and return how much that is."""
    found = 0
    for finding in run:
        found += 1
        print(f"\n{finding}", flush=True)
    never = sorted(operation for operation, statuses in run.statuses.items() if not any(map(_is_success, statuses)))
    print(f"\n{run.caller.role}, seed {run.extent.seed}: {run.cases:,} cases, {found} findings", flush=True)
    print(f"Operations: {len(run.statuses)}; never accepted: {', '.join(never) or 'none'}", flush=True)
    return found


def _logged_errors(stack: stacks.Stack) -> list[str]:
    """Return what the services' logs tell of defects, which no answer need show: each message once, with its number."""
    lines = (line for log in (stack.folder / "logs").glob("*.log") for line in log.read_text().splitlines())
    errors = (json.loads(line) for line in lines if '"level": "ERROR"' in line)
    counts = Counter(f"{error['service']}: {error['message']}" for error in errors)
    return [f"{count} times {message}" for message, count in counts.most_common()]


def _is_success(status: int) -> bool:
    return 200 <= status < 300


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
