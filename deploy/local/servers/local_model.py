"""The component that runs the local model, which answers without an account anywhere."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from deploy.local.privileges import environment
from deploy.local.servers.ports import HOST
from deploy.local.supervisor import probes
from deploy.local.supervisor.component import STOPPED_LAST, Component

MODEL_NAME = "smollm2-135m-instruct"


def local_model(weights: Path, port: int, caller: Mapping[str, str]) -> Component:
    """Return the component of `deploy.local.servers.model_server`; `weights` is a GGUF file."""

    async def is_healthy() -> bool:
        status, _ = await probes.http_get(HOST, port, "/health")
        return status == 200

    return Component(
        name="model",
        command=(sys.executable, "-P", "-m", "deploy.local.servers.model_server", str(weights), str(port)),
        environment=environment.python_environment(caller),
        wait_ready=partial(probes.wait_until, is_healthy),
        port=port,
        stop_order=STOPPED_LAST,
        stop_timeout_seconds=3.0,
        remedy="Start without the local model: everloop up --no-model",
    )
