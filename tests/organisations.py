"""More organisations and members in a stack than its first ones, which no operation creates yet."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

from deploy.local.folder import Folder
from services.authz.credentials.keys import generate_key, secret_tail
from services.authz.credentials.random_secrets import hash_secret
from shared import ids
from shared.contracts.principal import Role
from tests.stack import Stack


@contextmanager
def _database(stack: Stack) -> Iterator[Database[dict[str, Any]]]:
    client: MongoClient[dict[str, Any]] = MongoClient(
        f"mongodb://127.0.0.1:{stack.status()['mongod']['port']}/?directConnection=true",
        username="authz",
        password=Folder(stack.folder).secrets["mongo_passwords"]["authz"],
        authSource="everloop_authz",
    )
    with client:
        yield client["everloop_authz"]


def _insert_user_with_key(database: Database[dict[str, Any]], organisation: str, role: Role) -> tuple[str, str]:
    """Return the id of a new user, and the secret of a key that they made in an organisation."""
    secret, user, now = generate_key(), ids.mint("usr"), datetime.now(UTC)
    database["users"].insert_one({"_id": user, "email": f"{user}@example.com".lower(), "created_at": now})
    database["keys"].insert_one(
        {
            "_id": ids.mint("key"),
            "organisation": organisation,
            "name": f"Key of {user}",
            "hash": hash_secret(secret),
            "tail": secret_tail(secret),
            "role": role,
            "creator_id": user,
            "created_at": now,
            "revoked_at": None,
        }
    )
    return user, secret


def add_organisation(stack: Stack) -> str:
    """Insert an organisation with one Admin and one API key into the database of authz; return the key's secret."""
    organisation, now = ids.mint("tm"), datetime.now(UTC)
    with _database(stack) as database:
        user, secret = _insert_user_with_key(database, organisation, "Admin")
        members = [{"user_id": user, "role": "Admin", "joined_at": now}]
        document = {"_id": organisation, "members": members, "revision": 1, "created_at": now}
        database["organisations"].insert_one(document)
    return secret


def add_member(stack: Stack, organisation: str, role: Role) -> tuple[str, str]:
    """Insert a member into an organisation; return the user's id, and the secret of an API key with the same role."""
    now = datetime.now(UTC)
    with _database(stack) as database:
        user, secret = _insert_user_with_key(database, organisation, role)
        member = {"user_id": user, "role": role, "joined_at": now}
        database["organisations"].update_one(
            {"_id": organisation}, {"$push": {"members": member}, "$inc": {"revision": 1}}
        )
    return user, secret
