"""`everloop`: start, stop and look at a whole stack on one machine."""

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.local import checks
from deploy.local.checks import Level
from deploy.local.cli import dead_letters, ready_message
from deploy.local.errors import Refused
from deploy.local.folder import Folder
from deploy.local.privileges import rotation
from deploy.local.stack import NAMES, Options, Stack, assemble
from deploy.local.supervisor.background import in_background
from deploy.local.supervisor.supervisor import Supervisor

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Everloop on this machine: five services, MongoDB, NATS and a small model, in one folder.",
)
app.add_typer(dead_letters.app, name="dead")

secret = typer.Typer(no_args_is_help=True, help="The secret that provider keys and tool secrets are encrypted with.")
app.add_typer(secret, name="secret")


def _named(text: str | Path) -> Path:
    if not str(text).strip():
        raise typer.BadParameter("it is empty; name a folder, or leave --data out")
    return Path(text)


DataOption = Annotated[
    Path, typer.Option("--data", help="Where everything is kept.", show_default="./.everloop", parser=_named)
]
HERE = Path(".everloop")
STOP_SECONDS = 90.0
NOT_RUNNING = 3


def _port(what: str) -> Any:  # noqa: ANN401 - what typer says it returns
    return typer.Option(min=0, max=65_535, help=f"{what}; 0 takes a free one.", show_default="as at the last start")


@app.command()
def up(  # noqa: PLR0913, PLR0917 - one argument per option
    detach: Annotated[bool, typer.Option("--detach", help="Return when ready and go on in the background.")] = False,
    data: DataOption = HERE,
    port: Annotated[int | None, _port("Port of the API and the console (at first 8000)")] = None,
    nats_port: Annotated[int | None, _port("Port of NATS")] = None,
    mongo_port: Annotated[int | None, _port("Port of MongoDB")] = None,
    model_port: Annotated[int | None, _port("Port of the local model")] = None,
    no_model: Annotated[bool, typer.Option("--no-model", help="Do without the small local model.")] = False,
) -> None:
    """Start everything and keep it running; data of the last time is found again."""
    options = Options(os.environ, port, nats_port, mongo_port, model_port, with_model=not no_model)
    folder = Folder(data)
    for finding in checks.examine(options, folder):
        if finding.level is Level.FATAL:
            raise Refused(finding.text)
        if finding.level is Level.WARNING:
            _say(finding.text)
    folder.create()
    if not folder.hold():
        where = folder.state.get("url", "an address not known yet")
        raise Refused(f"Everloop already runs on {folder.path}: {where}. To stop it: {_command('down', folder)}")
    folder.rotate_logs()
    stack = assemble(options, folder)
    _say("Starting Everloop ...")
    if detach:
        code = in_background(
            lambda ready: _run(stack, folder, ready, how_to_stop=f"Stop it: {_command('down', folder)}"),
            folder.log("supervisor"),
        )
        folder.let_go()
    else:
        code = _run(stack, folder, lambda: None, how_to_stop="Ctrl-C stops.")
    raise typer.Exit(code)


@app.command()
def down(data: DataOption = HERE) -> None:
    """Stop the stack that runs on the folder, in order, and wait until it is gone."""
    folder = Folder(data)
    if not folder.is_held:
        _say(f"Nothing runs on {folder.path}.")
        return
    if not folder.stop_holder(STOP_SECONDS):
        raise Refused(f"It has not stopped within {STOP_SECONDS:.0f} seconds. See the logs in {folder.logs}.")
    _say("Stopped.")


@app.command()
def status(
    data: DataOption = HERE,
    as_json: Annotated[bool, typer.Option("--json", help="A list for programs.")] = False,
) -> None:
    """What runs, where, and how often it had to be restarted. Exit code 3 when nothing does."""
    folder = Folder(data)
    held = folder.is_held
    components = _components(folder, held)
    if as_json:
        print(json.dumps(components))
    elif not held:
        print(f"Nothing runs on {folder.path}. Start it: {_command('up', folder)}")
    else:
        print(folder.state["url"])
        print(f"{'NAME':<12} {'STATE':<10} {'PID':>8} {'PORT':>6} {'RESTARTS':>8}")
        for each in components:
            pid, port = each["pid"] or "-", each["port"] or "-"
            print(f"{each['name']:<12} {each['state']:<10} {pid:>8} {port:>6} {each['restarts']:>8}")
    raise typer.Exit(0 if held else NOT_RUNNING)


@app.command()
def doctor(data: DataOption = HERE) -> None:
    """Look at what a stack needs of this machine. Exit code 1 when something would stop it from starting."""
    folder = Folder(data)
    findings = list(checks.examine(Options(), folder))
    findings.append(checks.running(folder))
    for finding in findings:
        print(f"{finding.level:<8} {finding.text}")
    raise typer.Exit(1 if any(finding.level is Level.FATAL for finding in findings) else 0)


@secret.command()
def rotate(data: DataOption = HERE) -> None:
    """Draw a new secret. The next start encrypts with it what is stored under the old one, which is kept till then."""
    folder = Folder(data)
    rotation.rotate(folder, os.environ)
    _say(f"A new secret was drawn. Start the stack: {_command('up', folder)}")
    _say(f"Afterwards the old one can go: {_command('secret drop-old', folder)} (on the stopped stack).")


@secret.command("drop-old")
def drop_old(data: DataOption = HERE) -> None:
    """Forget the secrets of before the last rotation. Refused until a stack has come up with the new one."""
    dropped = rotation.drop_old(Folder(data), os.environ)
    _say(f"{dropped} old secrets were dropped." if dropped else "There is no old secret.")


def main() -> None:
    """The console script."""
    try:
        app()
    except Refused as refused:
        print(f"everloop: {refused}", file=sys.stderr)
        sys.exit(1)


def _run(stack: Stack, folder: Folder, ready: Callable[[], None], how_to_stop: str) -> int:
    def announce() -> None:
        rotation.note_ready(folder, os.environ)
        _say(ready_message.text(stack, folder, how_to_stop))
        ready()

    try:
        asyncio.run(Supervisor(stack.components, folder, stack.url, _say).run(announce))
    except Refused as refused:
        print(f"everloop: {refused}", file=sys.stderr, flush=True)
        return 1
    return 0


def _components(folder: Folder, held: bool) -> list[dict[str, Any]]:
    """As the supervisor wrote them last, in the order of NAMES."""
    known = {each["name"]: each for each in folder.state.get("components", [])}
    if not known:
        known = {name: {"name": name, "port": None} for name in NAMES}
    if not held:
        known = {name: each | {"pid": None, "state": "stopped", "restarts": 0} for name, each in known.items()}
    return [
        {key: known[name][key] for key in ("name", "pid", "port", "state", "restarts")}
        for name in NAMES
        if name in known
    ]


def _command(verb: str, folder: Folder) -> str:
    """What to type, from here, for this folder."""
    on_path = shutil.which("everloop") or not sys.argv[0].endswith("/everloop")
    program = "everloop" if on_path else os.path.relpath(sys.argv[0])
    where = "" if folder.path == HERE.absolute() else f" --data {shlex.quote(str(folder.path))}"
    return f"{program} {verb}{where}"


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone; the stack goes on
        print(line, flush=True)


if __name__ == "__main__":
    main()
