"""A stack for tests: started with `everloop up` on free ports, in a folder of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.folder import Folder

EVERLOOP = Path(sys.executable).parent / "everloop"
ROOT = Path(__file__).parent.parent
_STOP_SECONDS = 90.0


@dataclass(frozen=True)
class Stack:
    """A running stack: its data folder, URL and first API key."""

    folder: Path
    url: str
    """Of the v4 API: ends in `/v4`, as the SDKs take it."""
    api_key: str

    @property
    def base_url(self) -> str:
        """The URL without `/v4`."""
        return self.url.removesuffix("/v4")

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what `everloop status` tells of each component, by name: read as it reads it, without its process."""
        return {row["name"]: row for row in Folder(self.folder).state["components"]}

    def stop(self) -> None:
        """Stop it and wait for its end, as `everloop down` does. Raises AssertionError if it does not end."""
        folder = Folder(self.folder)
        assert not folder.is_locked or folder.stop_supervisor(_STOP_SECONDS), f"the stack of {folder.path} does not end"


def everloop(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line; `environment` adds to that of this process. Raises AssertionError if it fails."""
    done = subprocess.run(
        [str(EVERLOOP), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | (environment or {}),
        cwd=ROOT,
    )
    assert done.returncode == 0, f"everloop {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}"
    return done


def start(folder: Path, *options: str, environment: Mapping[str, str] | None = None) -> Stack:
    """Run `everloop up --detach` on free ports; return when every service is ready."""
    everloop("up", "--detach", "--data", str(folder), "--port", "0", *options, environment=environment)
    credentials = json.loads((folder / "credentials.json").read_text())
    return Stack(folder=folder, url=credentials["url"], api_key=credentials["api_key"])
