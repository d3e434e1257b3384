"""The authz service as a process, on a real MongoDB and a real NATS, and an Admin of an organisation of its own."""

import ipaddress
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.authz.credentials import keys
from services.authz.credentials.random_secrets import hash_secret
from services.authz.membership.organisations import Organisation
from services.authz.store.installation import InstallationStore
from shared import ids
from shared.bus import Bus
from shared.contracts.access.authentication import Authenticate, AuthenticateSession
from shared.contracts.access.invites import AcceptInvite, SendInvite
from shared.contracts.access.keys import CreateKey, Key, ListKeys, NewKey
from shared.contracts.access.sessions import Browser, SignedIn, SignIn
from shared.contracts.principal import Principal, Role
from shared.mongo import Database
from tests.integration.servers import Mongo, Nats, Process, service


@dataclass(frozen=True)
class Servers:
    """nats-server and mongod, with a connection to each."""

    folder: Path
    nats: Nats
    mongo: Mongo
    bus: Bus
    any_database: Database

    def authz(self, prefix: str, bootstrap: Path | None = None, **environment: str) -> Process:
        """Return an authz process that is not started; processes with one `prefix` are replicas."""
        if bootstrap is not None:
            environment["EVERLOOP_BOOTSTRAP_FILE"] = str(bootstrap)
        return service("authz", self.folder, self.nats, self.mongo, EVERLOOP_MONGO_PREFIX=prefix, **environment)

    def database(self, prefix: str) -> Database:
        """Return the database of the authz processes with this prefix."""
        return self.any_database.client[f"{prefix}_authz"]

    def bootstrap_file(self, **changes: str) -> Path:
        """Write a bootstrap file and return its path."""
        path = self.folder / f"{ids.mint('file')}.json"
        content = {
            "url": "http://127.0.0.1:8000",
            "email": "Ada@Example.org",
            "password": "correct horse",
            "api_key": keys.generate_key(),
        }
        path.write_text(json.dumps(content | changes))
        return path


@dataclass(frozen=True)
class Admin:
    """The first Admin of an organisation of a running authz process."""

    servers: Servers
    prefix: str
    secret: str
    principal: Principal

    @property
    def bus(self) -> Bus:
        """The connection to the bus."""
        return self.servers.bus

    async def create(self, name: str, role: Role | None = None, by: Principal | None = None, **more: Any) -> NewKey:
        """Create a key as this Admin, or as another principal."""
        by = by or self.principal
        return await self.bus.request(CreateKey(principal=by, name=name, role=role, **more))

    async def keys(self) -> list[Key]:
        """Return all keys of the organisation."""
        return (await self.bus.request(ListKeys(principal=self.principal))).keys

    async def colleague(self, role: Role) -> str:
        """Insert another member into the database and return the user's id."""
        user_id, now = ids.mint("usr"), datetime.now(UTC)
        database = self.servers.database(self.prefix)
        await database["users"].insert_one({"_id": user_id, "email": f"{user_id}@example.org"})
        await database["organisations"].update_one(
            {"_id": self.principal.organisation},
            {"$push": {"members": {"user_id": user_id, "role": role, "joined_at": now}}},
        )
        return user_id


async def authenticate(bus: Bus, secret: str) -> Principal:
    return await bus.request(Authenticate(key_hash=hash_secret(secret)))


async def new_admin(servers: Servers) -> Admin:
    """Return the first Admin of a new organisation of the authz process with the prefix `busy`."""
    user_id, secret = ids.mint("usr"), keys.generate_key()
    organisation = Organisation(ids.mint("tm"), roles={user_id: "Admin"}, revision=1)
    key = keys.StoredKey(
        id=ids.mint("key"),
        organisation=organisation.id,
        name="First key",
        hash=hash_secret(secret),
        tail=keys.secret_tail(secret),
        role="Admin",
        creator_id=user_id,
        created_at=datetime.now(UTC),
    )
    await InstallationStore(servers.database("busy")).insert_first_organisation(
        organisation, key, f"{user_id}@example.org".lower(), "unused"
    )
    return Admin(servers, "busy", secret, await authenticate(servers.bus, secret))


PASSWORD = "correct horse battery"


def browser(address: str | None = None) -> Browser:
    """Return a browser, by default at an address that no other has, so that its failures are counted alone."""
    own = address or str(ipaddress.IPv4Address(0x0A000000 + secrets.randbelow(2**24)))
    return Browser(address=own, user_agent="Mozilla/5.0")


async def sign_in(bus: Bus, email: str, password: str = PASSWORD, at: Browser | None = None, **more: Any) -> SignedIn:
    """Sign in from an address of its own, or from `at`."""
    return await bus.request(SignIn(email=email, password=password, browser=at or browser(), **more))


async def session_of(bus: Bus, secret: str) -> Principal:
    """Return who is signed in with the secret of a session."""
    return await bus.request(AuthenticateSession(session_hash=hash_secret(secret)))


async def new_person(admin: Admin, role: Role = "Member") -> SignedIn:
    """Invite somebody who has no account, and return their first session."""
    email = f"{ids.mint('who')}@example.org".lower()
    new = await admin.bus.request(SendInvite(principal=admin.principal, email=email, role=role))
    token = new.link.partition("#")[2]
    return await admin.bus.request(AcceptInvite(token=token, password=PASSWORD, browser=browser()))
