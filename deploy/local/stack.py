"""Turns the options of `everloop up` and the data folder into the components of a stack."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import services
from deploy.local.errors import CommandError
from deploy.local.folder import Folder
from deploy.local.privileges import environment
from deploy.local.privileges.secrets import Secrets, write_credentials
from deploy.local.servers import binaries, ports
from deploy.local.servers.local_model import MODEL_NAME, local_model
from deploy.local.servers.mongod import mongo_url, mongod
from deploy.local.servers.nats_server import nats_server
from deploy.local.supervisor.component import Component

NAMES = ("mongod", "nats-server", "model", *services.NAMES)
"""Every component a stack may have, in the order `status` shows them."""


@dataclass(frozen=True)
class Options:
    """Options of `up`; a port of None is no preference, 0 is any free port."""

    caller: Mapping[str, str] = field(default_factory=lambda: os.environ)
    """The environment `up` was called with."""
    http_port: int | None = None
    nats_port: int | None = None
    mongo_port: int | None = None
    model_port: int | None = None
    with_model: bool = True

    @property
    def starts_mongod(self) -> bool:
        """Whether the stack starts its own MongoDB: EVERLOOP_MONGO_URL is not set."""
        return not self.caller.get("EVERLOOP_MONGO_URL")

    @property
    def starts_nats_server(self) -> bool:
        """Whether the stack starts its own NATS: EVERLOOP_NATS_URL is not set."""
        return not self.caller.get("EVERLOOP_NATS_URL")


@dataclass(frozen=True)
class Stack:
    """The components of a stack, ready to be started, and what a client needs to know."""

    components: list[Component]
    url: str
    api_key: str
    model: str
    """Name of a model that answers without an account."""

    @property
    def api(self) -> str:
        """Base URL for a v4 client."""
        return f"{self.url}/v4"


def build_stack(options: Options, folder: Folder) -> Stack:
    """Choose the ports, load or create the secrets, and return the components. The caller has locked the folder.

    Raises CommandError if a port cannot be used or a program is not installed.
    """
    caller = options.caller
    host = caller.get("EVERLOOP_HTTP_HOST") or ports.HOST
    chosen = ports.choose(_requested_ports(options), folder.ports, host)
    folder.ports = {**folder.ports, **chosen}
    # A server that listens on every address is reached on this one.
    client_host = ports.HOST if host == "0.0.0.0" else host  # noqa: S104 - compared, not bound
    url = f"http://{client_host}:{chosen['http']}"
    secrets = Secrets.load_or_create(folder)
    api_key = write_credentials(folder, f"{url}/v4")

    servers = _servers(options, folder, chosen, secrets)
    environments = {name: _environment(name, options, chosen, secrets) for name in services.NAMES}
    environments["gateway"] |= {"EVERLOOP_HTTP_HOST": host, "EVERLOOP_HTTP_PORT": str(chosen["http"])}
    environments["authz"]["EVERLOOP_BOOTSTRAP_FILE"] = str(folder.credentials)
    if _is_loopback(host):
        for name in ("gateway", "authz"):  # elsewhere people open another address, which only the operator knows
            environments[name].setdefault("EVERLOOP_PUBLIC_URL", url)
        # Whoever can call Everloop can call what else listens on this machine.
        environments["generation"] = environment.local_providers() | environments["generation"]
    if options.with_model:
        environments["generation"]["EVERLOOP_LOCAL_MODEL_URL"] = f"http://{ports.HOST}:{chosen['model']}/v1"
    # The gateway takes longest to load and has no database: it loads while mongod starts.
    after = {
        name: tuple(
            server.name
            for server in servers
            if server.name == "nats-server" or (server.name == "mongod" and name in environment.DATABASES)
        )
        for name in services.NAMES
    }
    return Stack(
        components=[*servers, *services.services(environments, (client_host, chosen["http"]), after=after)],
        url=url,
        api_key=api_key,
        model=MODEL_NAME if options.with_model else "mock",
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name, wherever it leads
        return False


def _environment(name: str, options: Options, chosen: Mapping[str, int], secrets: Secrets) -> dict[str, str]:
    """Return a service's environment: what it may have of the caller's, and its part of the secrets."""
    caller = options.caller
    variables = environment.service_environment(name, caller)
    variables |= services.login("NATS", name, caller, secrets.bus_passwords if options.starts_nats_server else {})
    if options.starts_nats_server:
        variables["EVERLOOP_NATS_URL"] = f"nats://{ports.HOST}:{chosen['nats']}"
    if name in environment.DATABASES:
        variables |= services.login("MONGO", name, caller, secrets.mongo_passwords if options.starts_mongod else {})
        if options.starts_mongod:
            variables["EVERLOOP_MONGO_URL"] = mongo_url(chosen["mongo"])
    if name in environment.ENCRYPTING and not variables.get("EVERLOOP_SECRET"):
        fallbacks = [caller.get("EVERLOOP_SECRET_FALLBACKS"), *secrets.secret_fallbacks]
        variables["EVERLOOP_SECRET"] = secrets.secret
        variables["EVERLOOP_SECRET_FALLBACKS"] = ",".join(filter(None, fallbacks))
    return variables


def _requested_ports(options: Options) -> dict[str, int | None]:
    requested = {"http": options.http_port}
    if options.starts_mongod:
        requested["mongo"] = options.mongo_port
    if options.starts_nats_server:
        requested["nats"] = options.nats_port
    if options.with_model:
        requested["model"] = options.model_port
    return requested


def _servers(options: Options, folder: Folder, chosen: Mapping[str, int], secrets: Secrets) -> list[Component]:
    servers = []
    if options.starts_mongod:
        binary = _require_installed(binaries.find_mongod(), "mongod", "set EVERLOOP_MONGO_URL to a MongoDB of your own")
        servers.append(mongod(binary, folder, chosen["mongo"], secrets, options.caller))
    if options.starts_nats_server:
        binary = _require_installed(
            binaries.find_nats_server(), "nats-server", "set EVERLOOP_NATS_URL to a NATS server of your own"
        )
        servers.append(nats_server(binary, folder, chosen["nats"], secrets.bus_passwords, options.caller))
    if options.with_model:
        weights = _require_installed(
            binaries.find_model_file(), "the local model", "start without it: everloop up --no-model"
        )
        servers.append(local_model(weights, chosen["model"], options.caller))
    return servers


def _require_installed(path: Path | None, name: str, alternative: str) -> Path:
    if path is None:
        raise CommandError(f"{name} is not installed. Run `make setup`, or {alternative}.")
    return path
