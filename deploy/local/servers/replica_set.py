"""Makes a mongod a replica set of one, with a user for each service. `-m deploy.local.servers.replica_set HOST:PORT`

Key and passwords come in the environment, because anyone on the machine may read the command lines of others.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from functools import partial

from deploy.local.privileges import mongo_users
from deploy.local.supervisor import probes
from shared.mongo import User, create_users, initiate_replica_set
from shared.settings import DatabaseSettings

_DEFAULT_PREFIX: str = DatabaseSettings.model_fields["mongo_prefix"].default


async def initiate(address: str, environment: Mapping[str, str]) -> None:
    """Wait until mongod listens on `address` (host:port), then initiate the replica set and create its users."""
    host, _, port = address.rpartition(":")
    await probes.wait_until(partial(probes.accepts_connections, host, int(port)))
    url = f"mongodb://{address}/?directConnection=true"
    key = mongo_users.read_key(environment)
    await initiate_replica_set(url, address, key)
    await create_users(url, key, [User(*user) for user in mongo_users.read_users(environment, _DEFAULT_PREFIX)])


if __name__ == "__main__":
    asyncio.run(initiate(sys.argv[1], os.environ))
