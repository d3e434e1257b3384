"""Runs scripts of `tests/sdk` and `examples` with the client library of an SDK environment."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stack import ROOT, Stack

SCRIPTS = ROOT / "tests" / "sdk"


@dataclass(frozen=True)
class SdkScripts:
    """The scripts, run by the Python of one environment, against one stack."""

    environment: str
    """The environment's folder below the root, as the Makefile makes it, e.g. `.venv-sdk735`."""
    stack: Stack

    def run(self, script: str, **arguments: Any) -> Any:
        """Run a script of `tests/sdk`, which reads `arguments` from `ARGUMENTS`; return the JSON of its last line."""
        output = self._run(SCRIPTS / script, ARGUMENTS=json.dumps(arguments))
        return json.loads(output.strip().splitlines()[-1])

    def run_example(self, script: str) -> str:
        """Run a script of `examples`; return its standard output."""
        return self._run(ROOT / "examples" / script)

    def _run(self, script: Path, **environment: str) -> str:
        environment |= {"EVERLOOP_URL": self.stack.url, "EVERLOOP_API_KEY": self.stack.api_key}
        completed = subprocess.run(
            [str(ROOT / self.environment / "bin" / "python"), str(script)],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
            env=os.environ | environment,
        )
        assert completed.returncode == 0, f"{script} failed:\n{completed.stdout}\n{completed.stderr}"
        return completed.stdout
