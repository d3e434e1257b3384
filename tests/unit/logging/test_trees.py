"""Building the tree of a session, whatever the parent ids of its logs are."""

from collections.abc import Iterator
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.logging.trees import MAX_DEPTH, TreeLog, build_tree
from shared.contracts.logs import Node, Tree
from tests.unit.logging.builders import START


def tree_logs(*pairs: tuple[str, str | None]) -> list[TreeLog]:
    return [
        TreeLog(log_id, "pr_1", parent_id, START + timedelta(seconds=second))
        for second, (log_id, parent_id) in enumerate(pairs)
    ]


def shape(nodes: list[Node]) -> list[object]:
    return [(node.id, shape(node.children)) if node.children else node.id for node in nodes]


def walk(nodes: list[Node], depth: int = 1) -> Iterator[tuple[int, Node]]:
    for node in nodes:
        yield depth, node
        yield from walk(node.children, depth + 1)


def test_children_are_listed_under_their_parents_in_order_of_time() -> None:
    built = build_tree(tree_logs(("a", None), ("b", "a"), ("c", None), ("d", "b"), ("e", "a")))
    assert shape(built.roots) == [("a", [("b", ["d"]), "e"]), "c"]
    assert {node.state for _, node in walk(built.roots)} == {"attached"}


def test_a_child_that_came_before_its_parent_is_attached() -> None:
    assert shape(build_tree(tree_logs(("child", "parent"), ("parent", None))).roots) == [("parent", ["child"])]


def test_a_log_whose_parent_is_missing_is_a_root_marked_orphan() -> None:
    built = build_tree(tree_logs(("a", "gone"), ("b", "a")))
    assert shape(built.roots) == [("a", ["b"])]
    assert [(node.id, node.state) for _, node in walk(built.roots)] == [("a", "orphan"), ("b", "attached")]


def test_a_loop_is_broken_at_its_first_log_and_marked() -> None:
    built = build_tree(tree_logs(("a", "c"), ("b", "a"), ("c", "b"), ("d", "b"), ("self", "self")))
    assert shape(built.roots) == [("a", [("b", ["c", "d"])]), "self"]
    assert [node.state for node in built.roots] == ["loop", "loop"]


def test_a_descendant_of_a_loop_is_not_marked_as_part_of_it() -> None:
    built = build_tree(tree_logs(("tail", "a"), ("a", "b"), ("b", "a")))
    assert shape(built.roots) == [("a", ["tail", "b"])]
    assert built.roots[0].state == "loop"


def test_a_chain_of_fifty_thousand_logs_is_complete_and_serializable() -> None:
    chain = tree_logs(("data_0", None), *((f"data_{n}", f"data_{n - 1}") for n in range(1, 50_000)))
    sent = Tree.model_validate_json(build_tree(chain).model_dump_json())
    shown = list(walk(sent.roots))
    assert [node.id for _, node in shown] == [log.id for log in chain]
    assert max(depth for depth, _ in shown) == MAX_DEPTH


def test_a_loop_of_fifty_thousand_logs_is_complete() -> None:
    loop = tree_logs(*((f"data_{n}", f"data_{n - 1 if n else 49_999}") for n in range(50_000)))
    built = build_tree(loop)
    assert [node.state for node in built.roots] == ["loop"]
    assert sum(1 for _ in walk(built.roots)) == 50_000


@given(st.lists(st.one_of(st.none(), st.integers(min_value=-1, max_value=30)), max_size=30))
def test_every_log_appears_exactly_once(parents: list[int | None]) -> None:
    logs = tree_logs(*((f"data_{n}", None if parent is None else f"data_{parent}") for n, parent in enumerate(parents)))
    shown = list(walk(build_tree(logs).roots))
    assert sorted(node.id for _, node in shown) == sorted(log.id for log in logs)
    present = {log.id for log in logs}
    for depth, node in shown:
        if node.state == "orphan":
            assert depth == 1
            assert node.parent_id not in present
        if node.state == "loop":
            assert depth == 1
        if depth == 1 and node.state == "attached":
            assert node.parent_id is None
        assert [child.parent_id for child in node.children] == [node.id] * len(node.children)
