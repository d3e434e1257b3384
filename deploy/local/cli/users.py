"""`everloop user`: adds people and replaces their passwords, for those who are locked out."""

import asyncio
import json
import sys
from typing import Annotated

import typer

from deploy.local.cli.nats_server import OPERATOR, DataOption, UrlOption, UserOption, find_server
from deploy.local.operator_bus import send_request
from shared.contracts.access.account import AddPerson, ListPeople, SetPassword
from shared.contracts.permissions import ROLES

app = typer.Typer(
    no_args_is_help=True, help="People: list, add, replace a password. Needs no sign-in, only this machine."
)

EmailArgument = Annotated[str, typer.Argument(metavar="EMAIL", help="Email address.")]
PasswordOption = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input instead of generating one."),
]


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data: DataOption = None,
    nats_url: UrlOption = None,
    nats_user: UserOption = OPERATOR,
) -> None:
    """List everybody, with their roles in each organisation."""
    people = asyncio.run(send_request(find_server(data, nats_url, nats_user), ListPeople())).people
    if as_json:
        print(json.dumps([person.model_dump() for person in people], indent=2, ensure_ascii=False))
        return
    row = "{:<40}  {:<24}  {}"
    print(row.format("EMAIL", "NAME", "ROLES"))
    for person in people:
        roles = ", ".join(f"{one.role} in {one.name} ({one.organisation})" for one in person.memberships)
        print(row.format(person.email, person.full_name or "-", roles or "no member of any organisation"))


@app.command()
def add(  # noqa: PLR0913, PLR0917 - one argument per option
    email: EmailArgument,
    role: Annotated[str, typer.Option(help=f"{', '.join(ROLES)}.")] = "Member",
    name: Annotated[str | None, typer.Option(help="Full name.")] = None,
    organisation: Annotated[
        str | None, typer.Option(help="Id, slug or name of the organisation; needed if there are several.")
    ] = None,
    password_stdin: PasswordOption = False,
    data: DataOption = None,
    nats_url: UrlOption = None,
    nats_user: UserOption = OPERATOR,
) -> None:
    """Make somebody a member, and print the password of a new account once."""
    matching = [each for each in ROLES if each.lower() == role.lower()]
    if not matching:
        raise typer.BadParameter(f"--role is one of {', '.join(ROLES)}")
    request = AddPerson(
        email=email,
        full_name=name,
        role=matching[0],
        organisation=organisation,
        password=_read_password() if password_stdin else None,
    )
    answer = asyncio.run(send_request(find_server(data, nats_url, nats_user), request))
    print(f"{email} is {matching[0]} now.")
    if not answer.password:
        print("They had an account already and sign in as before.")
    elif not password_stdin:
        print(f"Password: {answer.password}")


@app.command("reset-password")
def reset_password(
    email: EmailArgument,
    password_stdin: PasswordOption = False,
    data: DataOption = None,
    nats_url: UrlOption = None,
    nats_user: UserOption = OPERATOR,
) -> None:
    """Set another password, print it once, and end all sessions of the person."""
    request = SetPassword(email=email, password=_read_password() if password_stdin else None)
    answer = asyncio.run(send_request(find_server(data, nats_url, nats_user), request))
    print(f"All sessions of {email} have ended; the new password is in effect.")
    if not password_stdin:
        print(f"Password: {answer.password}")


def _read_password() -> str:
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise typer.BadParameter("there is no password on standard input")
    return password
