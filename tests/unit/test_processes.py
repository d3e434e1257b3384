"""What a run of the tests starts ends with it."""

import os
import subprocess
import sys

import psutil
import pytest

from tests import processes

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STUBBORN!r}], env={{}})"


def test_what_is_marked_is_ended_with_its_descendants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what ignores to be asked, and what was started without the mark by something that has it."""
    monkeypatch.setattr(processes, "_TERMINATE_SECONDS", 0.5)
    monkeypatch.setattr(processes, "_VARIABLE", "STARTED_BY_THIS_TEST")
    monkeypatch.setenv("STARTED_BY_THIS_TEST", "me")
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, start_new_session=True) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        (child,) = psutil.Process(parent.pid).children()
        other = subprocess.Popen([sys.executable, "-c", STUBBORN], env=os.environ | {"STARTED_BY_THIS_TEST": "you"})
        try:
            assert len(processes.end_marked()) == 2
            child.wait(5)
            parent.wait(5)
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()
    assert processes.end_marked() == []


def test_a_run_inside_another_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not processes.mark()
    monkeypatch.setattr(processes, "_VARIABLE", "STARTED_BY_NOBODY_YET")
    monkeypatch.setenv("STARTED_BY_NOBODY_YET", "")
    monkeypatch.delenv("STARTED_BY_NOBODY_YET")
    assert processes.mark()
