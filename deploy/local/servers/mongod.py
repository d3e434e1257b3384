"""The component that runs mongod as a replica set of one node, with a user for each service."""

import asyncio
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from deploy.local.folder import Folder
from deploy.local.privileges import environment, mongo_users
from deploy.local.privileges.secrets import Secrets
from deploy.local.servers.ports import HOST
from deploy.local.supervisor.component import STOPPED_LAST, Component
from deploy.local.supervisor.spawn import spawn


def mongo_url(port: int) -> str:
    """Return the URL for a client. `directConnection`: the replica set may be known by an earlier port."""
    return f"mongodb://{HOST}:{port}/?replicaSet=rs0&directConnection=true"


def mongod(binary: Path, folder: Folder, port: int, secrets: Secrets, caller: Mapping[str, str]) -> Component:
    """Return mongod's component and write its key file. A replica set, because transactions need one."""
    mongo_users.write_key_file(folder.mongo_key, secrets.mongo_key)
    empty_unless_once_ready(folder)
    prefix = caller.get("EVERLOOP_MONGO_PREFIX", "")
    replica_set_environment = environment.python_environment(caller) | mongo_users.to_environment(
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
        environment=environment.program_environment(caller),
        wait_ready=partial(_initiate, port, replica_set_environment, folder),
        port=port,
        stop_order=STOPPED_LAST,
        stop_timeout_seconds=30.0,
        remedy="Use a MongoDB of your own by setting EVERLOOP_MONGO_URL.",
    )


def empty_unless_once_ready(folder: Folder) -> None:
    """Empty mongod's folder if it was begun and mongod never became ready in it.

    A mongod that is killed while it makes its first files may find them unusable at every later start. Nothing was
    accepted then. Folders of earlier versions have no such mark, and stay as they are.
    """
    if folder.mongod_begun.exists():
        shutil.rmtree(folder.mongod)
        folder.mongod.mkdir(mode=0o700)
    elif any(folder.mongod.iterdir()):
        return
    folder.mongod_begun.touch(mode=0o600)


async def _initiate(port: int, variables: Mapping[str, str], folder: Folder) -> None:
    """Run `servers.replica_set` until it succeeds, as a process: it loads the driver while mongod starts."""
    command = (sys.executable, "-P", "-m", "deploy.local.servers.replica_set", f"{HOST}:{port}")
    while True:
        process = await spawn(command, variables, folder.log("mongod"))
        try:
            if await process.wait() == 0:
                folder.mongod_begun.unlink(missing_ok=True)
                return
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await asyncio.sleep(0.5)
