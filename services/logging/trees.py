"""Builds the tree of a session's logs: late parents, loops, orphans. Nothing recurses, because chains may be long."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from shared.contracts.logs import Node, Tree

MAX_DEPTH = 64
"""Levels that are nested. JSON parsers refuse some 200 levels of brackets and a node takes two; deeper logs are listed,
in the order of the tree, after their ancestor on the last level, and `parent_id` names their real parent."""

State = Literal["attached", "orphan", "loop"]


class TreeLog(NamedTuple):
    """The fields of a log that its session's tree needs."""

    id: str
    project_id: str
    parent_id: str | None
    created_at: datetime


def build_tree(logs: Sequence[TreeLog]) -> Tree:
    """Return the tree of a session's logs, which are given from first to last; siblings keep that order."""
    states = _root_states(logs)
    children: dict[str, list[TreeLog]] = {log.id: [] for log in logs}
    for log in logs:
        if states[log.id] is None and log.parent_id is not None:
            children[log.parent_id].append(log)
    roots = [log for log in logs if states[log.id] is not None]
    return Tree(roots=_build_nodes(roots, children, states))


def _root_states(logs: Sequence[TreeLog]) -> dict[str, State | None]:
    """Return by log id why the log is a root, None for logs below a root. The first log of a loop becomes its root."""
    index_of = {log.id: index for index, log in enumerate(logs)}
    states: dict[str, State | None] = {}
    for log in logs:
        path: dict[str, None] = {}
        ancestor: TreeLog | None = log
        while ancestor is not None and ancestor.id not in states and ancestor.id not in path:
            path[ancestor.id] = None
            parent_id = ancestor.parent_id
            ancestor = None if parent_id is None or parent_id not in index_of else logs[index_of[parent_id]]
        for log_id in path:
            parent_id = logs[index_of[log_id]].parent_id
            states[log_id] = "attached" if parent_id is None else None if parent_id in index_of else "orphan"
        if ancestor is not None and ancestor.id in path:
            walked = list(path)
            loop = walked[walked.index(ancestor.id) :]
            states[min(loop, key=index_of.__getitem__)] = "loop"
    return states


def _build_nodes(
    roots: Sequence[TreeLog], children: dict[str, list[TreeLog]], states: dict[str, State | None]
) -> list[Node]:
    """Return the nodes of `roots`. Nodes are immutable, so each is built after its children, depth-first on a stack."""
    open_levels: list[tuple[TreeLog | None, list[Node]]] = [(None, [])]
    pending: list[tuple[int, TreeLog]] = [(1, root) for root in reversed(roots)]
    while pending:
        depth, log = pending.pop()
        while len(open_levels) > depth:
            _close_level(open_levels, states)
        open_levels.append((log, []))
        child_depth = min(depth + 1, MAX_DEPTH)
        pending.extend((child_depth, child) for child in reversed(children[log.id]))
    while len(open_levels) > 1:
        _close_level(open_levels, states)
    return open_levels[0][1]


def _close_level(open_levels: list[tuple[TreeLog | None, list[Node]]], states: dict[str, State | None]) -> None:
    """Build the node of the deepest open log, whose children are complete, and add it to its parent's children."""
    log, nodes = open_levels.pop()
    if log is None:
        return
    open_levels[-1][1].append(
        Node(
            id=log.id,
            project_id=log.project_id,
            parent_id=log.parent_id,
            created_at=log.created_at,
            children=nodes,
            state=states[log.id] or "attached",
        )
    )
