"""MongoDB's users, one for each service that has a database and `operator` for people, as environment variables."""

import os
from collections.abc import Mapping
from pathlib import Path

from deploy.local.privileges.secrets import MONGO_USERS

_KEY = "EVERLOOP_MONGO_KEY"
_PREFIX = "EVERLOOP_MONGO_PREFIX"
_PASSWORD = "EVERLOOP_MONGO_PASSWORD_"  # noqa: S105 - the beginning of a name


def write_key_file(path: Path, key: str) -> None:
    """Write mongod's key file with mode 0600; mongod refuses one that others may read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key)


def to_environment(key: str, passwords: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the variables that `deploy.local.servers.replica_set` reads; an empty `prefix` means the default one."""
    variables = {f"{_PASSWORD}{user.upper()}": passwords[user] for user in MONGO_USERS}
    return variables | {_KEY: key} | ({_PREFIX: prefix} if prefix else {})


def read_key(environment: Mapping[str, str]) -> str:
    """Return the content of mongod's key file."""
    return environment[_KEY]


def read_users(environment: Mapping[str, str], default_prefix: str) -> list[tuple[str, str, str]]:
    """Return database, name and password of each user.

    A service's user is defined in the service's database, `operator` in `admin`.
    """
    prefix = environment.get(_PREFIX) or default_prefix
    return [
        ("admin" if name == "operator" else f"{prefix}_{name}", name, environment[f"{_PASSWORD}{name.upper()}"])
        for name in MONGO_USERS
    ]
