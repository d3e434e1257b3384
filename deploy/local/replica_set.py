"""Make the mongod on a local port a replica set of one: `python -m deploy.local.replica_set PORT`."""

import asyncio
import sys
from functools import partial

from deploy.local import probes
from deploy.local.ports import HOST
from shared.mongo import initiate_replica_set


async def initiate(port: int) -> None:
    """Wait until mongod listens, then until it takes writes."""
    await probes.until(partial(probes.listens, HOST, port))
    await initiate_replica_set(f"mongodb://{HOST}:{port}/?directConnection=true", f"{HOST}:{port}")


if __name__ == "__main__":
    asyncio.run(initiate(int(sys.argv[1])))
