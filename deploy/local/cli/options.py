"""Options that several verbs have."""

from pathlib import Path
from typing import Annotated

import typer


def parse_folder(text: str | Path) -> Path:
    """Return the path; raises typer.BadParameter if it is empty, as `--data "$UNSET"` makes it."""
    if not str(text).strip():
        raise typer.BadParameter("it is empty; name a folder, or leave --data out")
    return Path(text)


DataOption = Annotated[
    Path,
    typer.Option(
        "--data", help="The data folder of the stack.", show_default="./.everloop", parser=parse_folder, metavar="DIR"
    ),
]
