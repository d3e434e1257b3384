"""The users of MongoDB, one for each service that has a database and one for people, as told to who makes them."""

import os
from collections.abc import Mapping
from pathlib import Path

from deploy.local.privileges.secrets import MONGO_USERS

_KEY = "EVERLOOP_MONGO_KEY"
_PREFIX = "EVERLOOP_MONGO_PREFIX"
_PASSWORD = "EVERLOOP_MONGO_PASSWORD_"  # noqa: S105 - the beginning of a name


def write_key(path: Path, key: str) -> None:
    """Write mongod's key file, which it reads only if nobody else may."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key)


def variables(key: str, passwords: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The environment of `deploy.local.servers.replica_set`."""
    given = {f"{_PASSWORD}{user.upper()}": passwords[user] for user in MONGO_USERS}
    return given | {_KEY: key} | ({_PREFIX: prefix} if prefix else {})


def key_of(environment: Mapping[str, str]) -> str:
    """The content of the server's key file."""
    return environment[_KEY]


def logins(environment: Mapping[str, str], default_prefix: str) -> list[tuple[str, str, str]]:
    """Database, name and password of each user. A service's is known in its own database, the operator's in `admin`."""
    prefix = environment.get(_PREFIX) or default_prefix
    return [
        ("admin" if name == "operator" else f"{prefix}_{name}", name, environment[f"{_PASSWORD}{name.upper()}"])
        for name in MONGO_USERS
    ]
