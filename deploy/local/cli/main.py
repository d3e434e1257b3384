"""The `everloop` command: starts, stops and inspects a stack on one machine."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from deploy.local import checks
from deploy.local.checks import Severity
from deploy.local.cli import dead_letters, ready_message, users
from deploy.local.cli.options import DataOption
from deploy.local.command_line import DEFAULT_FOLDER, command_line
from deploy.local.errors import CommandError
from deploy.local.folder import Folder
from deploy.local.privileges import secret_rotation
from deploy.local.stack import NAMES, Options, Stack, build_stack
from deploy.local.supervisor.background import run_in_background
from deploy.local.supervisor.supervisor import Supervisor

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run Everloop on this machine: five services, MongoDB, NATS and a small model, in one data folder.",
)
app.add_typer(dead_letters.app, name="dead")
app.add_typer(users.app, name="user")

secret = typer.Typer(
    no_args_is_help=True, help="Replace the secret that provider keys and tool secrets are encrypted with."
)
app.add_typer(secret, name="secret")


STOP_TIMEOUT_SECONDS = 90.0
"""How long `down` waits; longer than the slowest component's own timeouts together."""
EXIT_NOT_RUNNING = 3
"""Exit code of `status`, as that of `systemctl status`, when no stack runs."""


def _port_option(help_text: str) -> Any:  # noqa: ANN401 - what typer says it returns
    return typer.Option(
        min=0, max=65_535, help=f"{help_text}; 0 takes a free one.", show_default="as at the last start"
    )


@app.command()
def up(  # noqa: PLR0913, PLR0917 - one argument per option
    detach: Annotated[bool, typer.Option("--detach", help="Return when ready and go on in the background.")] = False,
    data: DataOption = DEFAULT_FOLDER,
    port: Annotated[int | None, _port_option("Port of the API and the console (at first 8000)")] = None,
    nats_port: Annotated[int | None, _port_option("Port of NATS")] = None,
    mongo_port: Annotated[int | None, _port_option("Port of MongoDB")] = None,
    model_port: Annotated[int | None, _port_option("Port of the local model")] = None,
    no_model: Annotated[bool, typer.Option("--no-model", help="Do without the small local model.")] = False,
) -> None:
    """Start a stack and keep it running. A later start finds its data again."""
    options = Options(os.environ, port, nats_port, mongo_port, model_port, with_model=not no_model)
    folder = Folder(data)
    for result in checks.run_checks(options, folder):
        if result.severity is Severity.FATAL:
            raise CommandError(result.text)
        if result.severity is Severity.WARNING:
            _echo(result.text)
    folder.create()
    if not folder.acquire_lock():
        url = folder.state.get("url", "an address not known yet")
        raise CommandError(f"Everloop already runs on {folder.path}: {url}. To stop it: {command_line('down', folder)}")
    folder.state = {}
    folder.rotate_logs()
    stack = build_stack(options, folder)
    _echo("Starting Everloop ...")
    if detach:
        code = run_in_background(
            lambda ready: _run(stack, folder, ready, how_to_stop=f"Stop it: {command_line('down', folder)}"),
            folder.log("supervisor"),
        )
        folder.release_lock()
    else:
        code = _run(stack, folder, lambda: None, how_to_stop="Ctrl-C stops it.")
    raise typer.Exit(code)


@app.command()
def down(data: DataOption = DEFAULT_FOLDER) -> None:
    """Stop the stack of a data folder and wait until its processes have ended."""
    folder = Folder(data)
    if not folder.is_locked:
        _echo(f"Nothing runs on {folder.path}.")
        return
    if not folder.stop_supervisor(STOP_TIMEOUT_SECONDS):
        raise CommandError(
            f"It has not stopped within {STOP_TIMEOUT_SECONDS:.0f} seconds. See the logs in {folder.logs}."
        )
    _echo("Stopped.")


@app.command()
def status(
    data: DataOption = DEFAULT_FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show processes, ports and restarts of a stack. The exit code is 3 if none runs."""
    folder = Folder(data)
    is_running = folder.is_locked
    components = _components(folder, is_running)
    if as_json:
        print(json.dumps(components))
    elif not is_running:
        print(f"Nothing runs on {folder.path}. Start it: {command_line('up', folder)}")
    else:
        print(folder.state.get("url", "It is starting."))
        print(f"{'NAME':<12} {'STATE':<10} {'PID':>8} {'PORT':>6} {'RESTARTS':>8}")
        for each in components:
            pid, port = each["pid"] or "-", each["port"] or "-"
            print(f"{each['name']:<12} {each['state']:<10} {pid:>8} {port:>6} {each['restarts']:>8}")
    raise typer.Exit(0 if is_running else EXIT_NOT_RUNNING)


@app.command()
def doctor(data: DataOption = DEFAULT_FOLDER) -> None:
    """Check what a stack needs of this machine. The exit code is 1 if something keeps it from starting."""
    folder = Folder(data)
    results = list(checks.run_checks(Options(), folder))
    results.append(checks.check_running_stack(folder))
    for result in results:
        print(f"{result.severity:<8} {result.text}")
    raise typer.Exit(1 if any(result.severity is Severity.FATAL for result in results) else 0)


@secret.command()
def rotate(data: DataOption = DEFAULT_FOLDER) -> None:
    """Generate a new secret. The next start encrypts with it what is stored; until then the old one is kept."""
    folder = Folder(data)
    secret_rotation.rotate(folder, os.environ)
    _echo(f"A new secret is set. Start the stack: {command_line('up', folder)}")
    _echo(f"Then stop it and delete the old secret: {command_line('secret drop-old', folder)}")


@secret.command("drop-old")
def drop_old(data: DataOption = DEFAULT_FOLDER) -> None:
    """Delete the old secrets, once a stack has been started with the new one on the folder's own MongoDB."""
    dropped = secret_rotation.drop_old(Folder(data), os.environ)
    _echo(f"Old secrets deleted: {dropped}." if dropped else "There is no old secret.")


def main() -> None:
    """Run the command line; the entry point of the console script."""
    try:
        app()
    except CommandError as error:
        print(f"everloop: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # of a data folder that is another user's, no folder at all, or on a full disk
        if error.filename is None:
            raise
        print(f"everloop: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def _run(stack: Stack, folder: Folder, when_ready: Callable[[], None], how_to_stop: str) -> int:
    """Supervise the stack until a stop signal; returns the exit code."""

    def on_ready() -> None:
        secret_rotation.mark_reencrypted(folder, os.environ)
        _echo(ready_message.ready_message(stack, folder, how_to_stop))
        when_ready()

    try:
        asyncio.run(Supervisor(stack.components, folder, stack.url, _echo).run(on_ready))
    except CommandError as error:
        print(f"everloop: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _components(folder: Folder, is_running: bool) -> list[dict[str, Any]]:
    """Return the components as the supervisor wrote them last, in the order of NAMES; all, before it wrote any."""
    by_name = {each["name"]: each for each in folder.state.get("components", [])}
    if not by_name:
        by_name = {
            name: {"name": name, "pid": None, "port": None, "state": "starting", "restarts": 0} for name in NAMES
        }
    if not is_running:
        by_name = {name: each | {"pid": None, "state": "stopped", "restarts": 0} for name, each in by_name.items()}
    return [
        {key: by_name[name][key] for key in ("name", "pid", "port", "state", "restarts")}
        for name in NAMES
        if name in by_name
    ]


def _echo(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone; the stack goes on
        print(line, flush=True)


if __name__ == "__main__":
    main()
