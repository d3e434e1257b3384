"""What tests share: one whole stack, the stand-in it takes for OpenAI, and clients for both."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import stack as stacks
from tests.standins import openai as openai_standin
from tests.standins import replicate as replicate_standin
from tests.standins.openai import OpenAIStandIn
from tests.standins.server import StandIn

SDK_SCRIPTS = Path(__file__).parent / "e2e" / "sdk"
SdkRun = Callable[..., Any]


@pytest.fixture(scope="session")
def upstream() -> OpenAIStandIn:
    """What the stack calls when it calls OpenAI."""
    return openai_standin.start()


@pytest.fixture(scope="session")
def predictions() -> StandIn:
    """What the stack calls when it calls Replicate."""
    return replicate_standin.start()


@pytest.fixture(scope="session")
def stack(
    upstream: OpenAIStandIn, predictions: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[stacks.Stack]:
    """A stack with its local model, started once."""
    environment = {
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "sk-from-the-environment",
        "REPLICATE_BASE_URL": predictions.url,
        "REPLICATE_API_TOKEN": "r8-from-the-environment",
        "EVERLOOP_COMPATIBLE_PROVIDERS": json.dumps({"house": {"base_url": upstream.url, "lacks": ["tools"]}}),
    }
    running = stacks.start(tmp_path_factory.mktemp("stack"), environment=environment)
    yield running
    running.stop()


@pytest.fixture
def openai(upstream: OpenAIStandIn) -> OpenAIStandIn:
    """The stand-in, without what earlier tests left."""
    upstream.clear()
    return upstream


@pytest.fixture(scope="session")
def api(stack: stacks.Stack) -> Iterator[httpx.Client]:
    """Raw HTTP with the first key."""
    with httpx.Client(base_url=stack.url, headers={"X-API-KEY": stack.api_key}, timeout=60) as client:
        yield client


def _sdk(environment_name: str, stack: stacks.Stack) -> SdkRun:
    python = stacks.ROOT / environment_name / "bin" / "python"

    def run(script: str, **arguments: Any) -> Any:
        path = SDK_SCRIPTS / script if "/" not in script else stacks.ROOT / script
        environment = os.environ | {
            "EVERLOOP_URL": stack.url,
            "EVERLOOP_API_KEY": stack.api_key,
            "ARGUMENTS": json.dumps(arguments),
        }
        done = subprocess.run(
            [str(python), str(path)], capture_output=True, text=True, timeout=240, check=False, env=environment
        )
        assert done.returncode == 0, f"{script} failed:\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout.strip().splitlines()[-1]) if "/" not in script else done.stdout

    return run


@pytest.fixture(scope="session")
def sdk735(stack: stacks.Stack) -> SdkRun:
    """Runs a script of `tests/e2e/sdk` with humanloop 0.7.35; gives what its last line says, as JSON."""
    return _sdk(".venv-sdk735", stack)


@pytest.fixture(scope="session")
def sdk700(stack: stacks.Stack) -> SdkRun:
    """The same with humanloop 0.7.0."""
    return _sdk(".venv-sdk700", stack)
