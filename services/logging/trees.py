"""Flat logs to a tree: late parents, loops broken, children in time order. Nothing recurses: chains may be long."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from shared.contracts.logs import Node, Tree

DEEPEST = 64
"""Levels that are nested. JSON readers stop at some 200 levels of brackets and a node takes two, so what lies deeper
is listed, in order of the tree, after its ancestor on the last level; `parent_id` still tells the truth."""

State = Literal["attached", "orphan", "loop"]


class TreeLog(NamedTuple):
    """A log of a session, as far as the tree needs it."""

    id: str
    project_id: str
    parent_id: str | None
    created_at: datetime


def tree(members: Sequence[TreeLog]) -> Tree:
    """The tree of `members`, which are given first to last."""
    states = _states(members)
    children: dict[str, list[TreeLog]] = {member.id: [] for member in members}
    for member in members:
        if states[member.id] is None and member.parent_id is not None:
            children[member.parent_id].append(member)
    roots = [member for member in members if states[member.id] is not None]
    return Tree(roots=_nodes(roots, children, states))


def _states(members: Sequence[TreeLog]) -> dict[str, State | None]:
    """Why a log is a root; None for the others. Of the logs of a loop the first in time becomes its root."""
    place = {member.id: index for index, member in enumerate(members)}
    states: dict[str, State | None] = {}
    for member in members:
        path: dict[str, None] = {}
        here: TreeLog | None = member
        while here is not None and here.id not in states and here.id not in path:
            path[here.id] = None
            here = None if here.parent_id is None or here.parent_id not in place else members[place[here.parent_id]]
        for log_id in path:
            parent_id = members[place[log_id]].parent_id
            states[log_id] = "attached" if parent_id is None else None if parent_id in place else "orphan"
        if here is not None and here.id in path:
            walked = list(path)
            loop = walked[walked.index(here.id) :]
            states[min(loop, key=place.__getitem__)] = "loop"
    return states


def _nodes(roots: Sequence[TreeLog], children: dict[str, list[TreeLog]], states: dict[str, State | None]) -> list[Node]:
    """Nodes are immutable, so a node is made when its children are."""
    open_levels: list[tuple[TreeLog | None, list[Node]]] = [(None, [])]
    waiting: list[tuple[int, TreeLog]] = [(1, root) for root in reversed(roots)]
    while waiting:
        depth, member = waiting.pop()
        while len(open_levels) > depth:
            _close(open_levels, states)
        open_levels.append((member, []))
        below = min(depth + 1, DEEPEST)
        waiting.extend((below, child) for child in reversed(children[member.id]))
    while len(open_levels) > 1:
        _close(open_levels, states)
    return open_levels[0][1]


def _close(open_levels: list[tuple[TreeLog | None, list[Node]]], states: dict[str, State | None]) -> None:
    member, nodes = open_levels.pop()
    if member is None:
        return
    open_levels[-1][1].append(
        Node(
            id=member.id,
            project_id=member.project_id,
            parent_id=member.parent_id,
            created_at=member.created_at,
            children=nodes,
            state=states[member.id] or "attached",
        )
    )
