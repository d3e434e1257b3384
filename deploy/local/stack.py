"""From the options of `everloop up` to the components of a stack."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import services
from deploy.local.errors import Refused
from deploy.local.folder import Folder
from deploy.local.privileges import environment
from deploy.local.privileges.secrets import Secrets, keep_credentials
from deploy.local.servers import components as servers
from deploy.local.servers import ports
from deploy.local.supervisor.component import Component

NAMES = ("mongod", "nats-server", "model", *services.NAMES)
"""Everything a stack may consist of, in the order `status` shows it."""


@dataclass(frozen=True)
class Options:
    """What the caller of `up` wishes; a port of None is no wish, 0 is any free port."""

    caller: Mapping[str, str] = field(default_factory=lambda: os.environ)
    """The environment `up` was called in."""
    http_port: int | None = None
    nats_port: int | None = None
    mongo_port: int | None = None
    model_port: int | None = None
    with_model: bool = True

    @property
    def own_mongo(self) -> bool:
        """Whether we bring MongoDB, or the caller does."""
        return not self.caller.get("EVERLOOP_MONGO_URL")

    @property
    def own_nats(self) -> bool:
        """Whether we bring NATS, or the caller does."""
        return not self.caller.get("EVERLOOP_NATS_URL")


@dataclass(frozen=True)
class Stack:
    """A stack that can be started: every address and password is known."""

    components: list[Component]
    url: str
    api_key: str
    model: str
    """A model that answers without an account."""

    @property
    def api(self) -> str:
        """The base URL for a v4 client."""
        return f"{self.url}/v4"


def assemble(options: Options, folder: Folder) -> Stack:
    """Choose the ports, draw or read the secrets, and describe every process. The folder is held by now."""
    caller = options.caller
    host = caller.get("EVERLOOP_HTTP_HOST") or ports.HOST
    chosen = ports.choose(_wishes(options), folder.ports, host)
    folder.ports = {**folder.ports, **chosen}
    # Whoever listens on every address is reached on this one.
    reached = ports.HOST if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
    url = f"http://{reached}:{chosen['http']}"
    secrets = Secrets.of(folder)
    api_key = keep_credentials(folder, f"{url}/v4")

    brought = _servers(options, folder, chosen, secrets)
    environments = {name: _environment(name, options, chosen, secrets) for name in services.NAMES}
    environments["gateway"] |= {"EVERLOOP_HTTP_HOST": host, "EVERLOOP_HTTP_PORT": str(chosen["http"])}
    environments["authz"]["EVERLOOP_BOOTSTRAP_FILE"] = str(folder.credentials)
    if options.with_model:
        environments["generation"]["EVERLOOP_LOCAL_MODEL_URL"] = f"http://{ports.HOST}:{chosen['model']}/v1"
    needed = tuple(component.name for component in brought if component.name != "model")
    return Stack(
        components=[*brought, *services.services(environments, (reached, chosen["http"]), after=needed)],
        url=url,
        api_key=api_key,
        model=servers.MODEL_NAME if options.with_model else "mock",
    )


def _environment(name: str, options: Options, chosen: Mapping[str, int], secrets: Secrets) -> dict[str, str]:
    """What a service may know of the caller's environment, and its part of the secrets."""
    caller = options.caller
    given = environment.of_service(name, caller)
    given |= services.login("NATS", name, caller, secrets.bus_passwords if options.own_nats else {})
    if options.own_nats:
        given["EVERLOOP_NATS_URL"] = f"nats://{ports.HOST}:{chosen['nats']}"
    if name in environment.DATABASES:
        given |= services.login("MONGO", name, caller, secrets.mongo_passwords if options.own_mongo else {})
        if options.own_mongo:
            given["EVERLOOP_MONGO_URL"] = servers.mongo_url(chosen["mongo"])
    if name in environment.ENCRYPTING and not given.get("EVERLOOP_SECRET"):
        fallbacks = [caller.get("EVERLOOP_SECRET_FALLBACKS"), *secrets.secret_fallbacks]
        given["EVERLOOP_SECRET"] = secrets.secret
        given["EVERLOOP_SECRET_FALLBACKS"] = ",".join(filter(None, fallbacks))
    return given


def _wishes(options: Options) -> dict[str, int | None]:
    wishes = {"http": options.http_port}
    if options.own_mongo:
        wishes["mongo"] = options.mongo_port
    if options.own_nats:
        wishes["nats"] = options.nats_port
    if options.with_model:
        wishes["model"] = options.model_port
    return wishes


def _servers(options: Options, folder: Folder, chosen: Mapping[str, int], secrets: Secrets) -> list[Component]:
    brought = []
    if options.own_mongo:
        binary = _found(servers.mongod_binary(), "mongod", "set EVERLOOP_MONGO_URL to a MongoDB of your own")
        brought.append(servers.mongod(binary, folder, chosen["mongo"], secrets, options.caller))
    if options.own_nats:
        binary = _found(servers.nats_binary(), "nats-server", "set EVERLOOP_NATS_URL to a NATS server of your own")
        brought.append(servers.nats_server(binary, folder, chosen["nats"], secrets.bus_passwords, options.caller))
    if options.with_model:
        weights = _found(servers.model_file(), "the local model", "start without it: everloop up --no-model")
        brought.append(servers.model(weights, chosen["model"], options.caller))
    return brought


def _found(path: Path | None, what: str, otherwise: str) -> Path:
    if path is None:
        raise Refused(f"{what} is not installed. Run `make setup`, or {otherwise}.")
    return path
