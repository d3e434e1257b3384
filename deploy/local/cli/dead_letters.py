"""`everloop dead`: lists and shows dead letters (messages that failed for good), and publishes them again."""

import asyncio
import base64
import json
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any

import typer
from nats.js import JetStreamContext

from deploy.local import dead_letters
from deploy.local.cli.nats_server import OPERATOR, DataOption, UrlOption, UserOption, find_server
from deploy.local.dead_letters import StoredLetter
from deploy.local.errors import CommandError
from deploy.local.operator_bus import Server

app = typer.Typer(
    no_args_is_help=True, help="Dead letters, the messages that failed for good: list, show, publish again."
)

SubjectOption = Annotated[
    str | None, typer.Option("--subject", help="Subject it was published on: logs.intake, or 'jobs.*'.")
]
OrganisationOption = Annotated[str | None, typer.Option("--organisation", help="Id of its organisation.")]


@app.command("list")
def list_(  # noqa: PLR0913, PLR0917 - one argument per option
    subject: SubjectOption = None,
    organisation: OrganisationOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to list, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data: DataOption = None,
    nats_url: UrlOption = None,
    nats_user: UserOption = OPERATOR,
) -> None:
    """List dead letters, the newest last."""
    matches = _filter(subject, organisation)

    async def collect(js: JetStreamContext) -> tuple[deque[StoredLetter], int]:
        newest: deque[StoredLetter] = deque(maxlen=limit)
        count = 0
        async for stored in dead_letters.iterate(js):
            if matches(stored):
                newest.append(stored)
                count += 1
        return newest, count

    newest, count = _run(find_server(data, nats_url, nats_user), collect)
    if as_json:
        print(json.dumps([_to_json(each) for each in newest]))
        return
    if count > len(newest):
        print(f"The newest {len(newest)} of {count}; more with --limit.", file=sys.stderr)
    if not newest:
        print("There are no such dead letters." if subject or organisation else "There are no dead letters.")
        return
    row = "{:>8}  {:<19}  {:<28}  {:<25}  {:>5}  {:<16}  {}"
    print(row.format("SEQ", "GIVEN UP (UTC)", "SUBJECT", "ORGANISATION", "TRIES", "ERROR", "REASON"))
    for sequence, letter in newest:
        at = f"{letter.last_at:%Y-%m-%d %H:%M:%S}"
        columns = (at, letter.subject, letter.organisation or "-", letter.tries, letter.error, letter.reason)
        print(row.format(sequence, *columns))


@app.command()
def show(
    sequence: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="Sequence, as `list` shows it.")],
    data: DataOption = None,
    nats_url: UrlOption = None,
    nats_user: UserOption = OPERATOR,
) -> None:
    """Print one dead letter as JSON, with the message as it was sent."""
    stored = _run(find_server(data, nats_url, nats_user), lambda js: dead_letters.get(js, sequence))
    payload = stored.letter.payload
    try:
        content: dict[str, Any] = {"payload": json.loads(payload)}
    except (ValueError, RecursionError):
        content = {"payload_base64": base64.b64encode(payload).decode()}
    print(json.dumps(_to_json(stored) | content, indent=2, ensure_ascii=False))


@app.command()
def replay(  # noqa: PLR0913, PLR0917 - one argument per option
    sequences: Annotated[
        list[int] | None, typer.Argument(metavar="SEQ", help="Sequences, as `list` shows them.")
    ] = None,
    replay_all: Annotated[bool, typer.Option("--all", help="All of one --subject.")] = False,
    subject: SubjectOption = None,
    organisation: OrganisationOption = None,
    data: DataOption = None,
    nats_url: UrlOption = None,
    nats_user: UserOption = OPERATOR,
) -> None:
    """Publish messages again on their subjects. A letter is deleted when its stream has acknowledged the message."""
    if replay_all and subject is None:
        raise typer.BadParameter("--all needs --subject: what is of another kind may have failed for another reason")
    if replay_all == bool(sequences):
        raise typer.BadParameter("name the letters (everloop dead replay 17 18), or --all with --subject")
    matches = _filter(subject, organisation)

    async def publish(js: JetStreamContext) -> bool:
        all_published = True
        chosen = sequences or [each.sequence async for each in dead_letters.iterate(js) if matches(each)]
        for sequence in chosen:
            try:
                stored = await dead_letters.get(js, sequence)
                await dead_letters.replay(js, stored)
            except CommandError as error:
                print(f"everloop: {error}", file=sys.stderr)
                all_published = False
            else:
                print(f"{sequence} -> {stored.letter.subject}")
        if not chosen:
            print("There are no such dead letters.")
        return all_published

    if not _run(find_server(data, nats_url, nats_user), publish):
        raise typer.Exit(1)


def _run(server: Server, work: Callable[[JetStreamContext], Coroutine[Any, Any, Any]]) -> Any:  # noqa: ANN401
    async def connect_and_work() -> Any:  # noqa: ANN401
        async with dead_letters.connect(server) as js:
            return await work(js)

    return asyncio.run(connect_and_work())


def _filter(subject: str | None, organisation: str | None) -> Callable[[StoredLetter], bool]:
    def matches(stored: StoredLetter) -> bool:
        letter = stored.letter
        return (subject is None or fnmatchcase(letter.subject, subject)) and (
            organisation is None or letter.organisation == organisation
        )

    return matches


def _to_json(stored: StoredLetter) -> dict[str, Any]:
    """Return the letter without its payload."""
    sequence, letter = stored
    return {
        "sequence": sequence,
        "subject": letter.subject,
        "organisation": letter.organisation,
        "error": letter.error,
        "reason": letter.reason,
        "tries": letter.tries,
        "first_at": _isoformat(letter.first_at),
        "last_at": _isoformat(letter.last_at),
        "trace": dict(letter.trace),
        "cut_from_bytes": letter.size,
    }


def _isoformat(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
