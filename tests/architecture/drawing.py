"""Draws a service: its rooms are its top-level modules and packages, its arrows the imports between them."""

import ast
from collections.abc import Iterable
from pathlib import Path

Arrows = dict[str, set[str]]
"""By room: the rooms it imports."""


def draw(folder: Path, package: str) -> Arrows:
    """Return the rooms of a package and the arrows between them, read from the source files without running them."""
    arrows: Arrows = {room: set() for room in _rooms(folder)}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        room = parts[0].removesuffix(".py")
        if room in arrows:
            imported = {_room(module, package) for module in _imported_modules(path)}
            arrows[room] |= (imported & arrows.keys()) - {room}
    return arrows


def _rooms(folder: Path) -> list[str]:
    modules = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    return sorted([*modules, *(path.parent.name for path in folder.glob("*/__init__.py"))])


def _imported_modules(path: Path) -> Iterable[str]:
    """Yield every module a file imports, inside functions and under `TYPE_CHECKING` too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room(module: str, package: str) -> str:
    """Return the room a module is in; empty if it is in none."""
    return module.removeprefix(f"{package}.").split(".")[0] if module.startswith(f"{package}.") else ""


def floors(arrows: Arrows) -> list[list[str]]:
    """Return the rooms floor by floor: a room stands above every room it imports, the lowest floor imports none.

    Rooms of a circle, and those above them, are on no floor.
    """
    below: list[list[str]] = []
    placed: set[str] = set()
    while floor := sorted(room for room, imported in arrows.items() if room not in placed and imported <= placed):
        below.append(floor)
        placed |= set(floor)
    return below


def circle(arrows: Arrows) -> list[str]:
    """Return the rooms on no floor: those of a circle of imports, and those above one."""
    return sorted(arrows.keys() - {room for floor in floors(arrows) for room in floor})


def picture(arrows: Arrows) -> str:
    """Return the drawing as text: the highest floor first, each room with its arrows."""
    rows = [f"{len(arrows)} rooms, {sum(map(len, arrows.values()))} arrows"]
    levels = floors(arrows)
    for number, floor in reversed(list(enumerate(levels))):
        rows += [f"floor {number}: {room} -> {', '.join(sorted(arrows[room])) or '-'}" for room in floor]
    rows += [f"in a circle, or above one: {room} -> {', '.join(sorted(arrows[room]))}" for room in circle(arrows)]
    return "\n".join(rows)
