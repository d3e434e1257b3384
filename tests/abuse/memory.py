"""The memory that each service of a stack takes while an attack runs."""

from pathlib import Path

from tests.stack import Stack

SERVICES = ("gateway", "generation", "logging", "evaluation", "authz")
MAX_BYTES = 400 * 1024 * 1024
"""What no service may exceed, whatever its callers do."""


class PeakMemory:
    """The largest resident memory of each service since this was made, as the kernel keeps it (proc(5), VmHWM)."""

    def __init__(self, stack: Stack) -> None:
        self._pids = {name: row["pid"] for name, row in stack.status().items() if name in SERVICES}
        for pid in self._pids.values():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # sets the peak back to what is resident now

    def by_service(self) -> dict[str, int]:
        """Return the peaks in bytes. Raises AssertionError if a service was restarted meanwhile."""
        return {name: _read_bytes(name, pid, "VmHWM") for name, pid in self._pids.items()}

    def assert_bounded(self) -> None:
        """Raise AssertionError if a service took more than `MAX_BYTES` or was restarted."""
        peaks = self.by_service()
        print({name: f"{peak / 2**20:.0f} MiB" for name, peak in peaks.items()})
        assert all(peak <= MAX_BYTES for peak in peaks.values()), peaks


def resident_bytes(stack: Stack, name: str) -> int:
    """Return the memory that a service takes now."""
    return _read_bytes(name, stack.status()[name]["pid"], "VmRSS")


def _read_bytes(name: str, pid: int, field: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        raise AssertionError(f"{name} ended during the attack") from None
    line = next(line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
