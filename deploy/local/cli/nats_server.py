"""Options of verbs that talk to a running stack: the NATS of its data folder, or another one."""

import os
from pathlib import Path
from typing import Annotated

import typer

from deploy.local.cli.options import parse_folder
from deploy.local.command_line import DEFAULT_FOLDER, command_line
from deploy.local.errors import CommandError
from deploy.local.folder import Folder
from deploy.local.operator_bus import Server
from deploy.local.servers.ports import HOST

OPERATOR = "operator"

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="The data folder of a running stack.",
        show_default="./.everloop",
        parser=parse_folder,
        metavar="DIR",
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--nats-url",
        envvar="EVERLOOP_NATS_URL",
        help="Another NATS than the folder's; password: EVERLOOP_NATS_PASSWORD_OPERATOR, or EVERLOOP_NATS_PASSWORD.",
    ),
]
UserOption = Annotated[str, typer.Option("--nats-user", envvar="EVERLOOP_NATS_USER", help="With --nats-url.")]


def find_server(data: Path | None, nats_url: str | None, nats_user: str) -> Server:
    """Return the NATS of `--data`, else of `--nats-url`, else of the folder `./.everloop`.

    Raises CommandError if no stack runs on the folder, or it uses another NATS.
    """
    if data is None and nats_url:
        password = os.environ.get("EVERLOOP_NATS_PASSWORD") or os.environ.get("EVERLOOP_NATS_PASSWORD_OPERATOR")
        return Server(nats_url, nats_user, password)
    folder = Folder(data or DEFAULT_FOLDER)
    if not folder.is_locked:
        raise CommandError(
            f"Nothing runs on {folder.path}. Start it ({command_line('up', folder)}), name its folder (--data), "
            "or name another NATS (--nats-url)."
        )
    port = next((each["port"] for each in folder.state.get("components", []) if each["name"] == "nats-server"), None)
    if port is None:
        raise CommandError(f"The stack on {folder.path} uses a NATS server of yours. Name it: --nats-url nats://...")
    return Server(f"nats://{HOST}:{port}", OPERATOR, folder.secrets["bus_passwords"][OPERATOR])
