"""Make a mongod a replica set of one, with a user for each service. Run as `-m deploy.local.servers.replica_set ADDRESS`.

Key and passwords are in the environment, for anyone on the machine may read the command lines of others.
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


async def prepare(address: str, environment: Mapping[str, str]) -> None:
    """Wait until mongod listens, then until it takes writes and knows its users."""
    host, _, port = address.rpartition(":")
    await probes.until(partial(probes.listens, host, int(port)))
    url = f"mongodb://{address}/?directConnection=true"
    key = mongo_users.key_of(environment)
    await initiate_replica_set(url, address, key)
    await create_users(url, key, [User(*login) for login in mongo_users.logins(environment, _DEFAULT_PREFIX)])


if __name__ == "__main__":
    asyncio.run(prepare(sys.argv[1], os.environ))
