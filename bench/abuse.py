"""Attack a stack, and print what an organisation beside the attacker notices, and how much memory the services take.

`python -m bench.abuse` runs every attack of `tests.abuse.attacks`; arguments choose those that have one of the words.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests import stack as stacks
from tests.abuse.attacks import ATTACKS
from tests.abuse.attacks.target import Target
from tests.abuse.memory import PeakMemory
from tests.abuse.victim import Victim
from tests.organisations import add_organisation

_SETTLE_SECONDS = 3.0


def main() -> None:
    """Run the attacks one after the other, each with the victim beside it."""
    words = sys.argv[1:]
    print(f"{'attack':36} {'seconds':>8} {'victim: slowest':>16} {'calls':>6} {'failed':>7} {'largest service':>24}")
    with tempfile.TemporaryDirectory() as folder:
        stack = stacks.start(
            Path(folder) / "stack",
            "--no-model",
            environment={"EVERLOOP_OUTBOUND_ALLOW": "127.0.0.1", "GEMINI_API_KEY": "none"},
        )
        try:
            victim = Victim(stack.url, add_organisation(stack))
            for name, attack in ATTACKS.items():
                if not words or any(word in name for word in words):
                    _measure(name, attack, stack, victim)
                    time.sleep(_SETTLE_SECONDS)
        finally:
            stack.stop()


def _measure(name: str, attack: Callable[[Target], object], stack: stacks.Stack, victim: Victim) -> None:
    memory, start, error = PeakMemory(stack), time.monotonic(), ""
    with contextlib.suppress(AssertionError), contextlib.redirect_stdout(None), victim.calling():
        try:
            attack(Target(stack.url, stack.api_key))
        except Exception as failure:  # noqa: BLE001 - an attack that fails is a result, too
            error = type(failure).__name__
        seconds = time.monotonic() - start
        time.sleep(0.5)
    failed = sum(call.status != 200 for call in victim.calls)
    service, peak = max(memory.by_service().items(), key=lambda item: item[1])
    figures = f"{seconds:8.1f} {victim.longest_seconds:14.2f} s {len(victim.calls):6} {failed:7}"
    print(f"{name:36} {figures} {f'{service} {peak / 2**20:.0f} MiB':>24} {error}", flush=True)


if __name__ == "__main__":
    main()
