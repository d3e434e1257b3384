"""Flat logs become a tree, whatever their parent pointers say."""

from collections.abc import Iterator
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.logging.trees import DEEPEST, TreeLog, tree
from shared.contracts.logs import Node, Tree
from tests.unit.logging.builders import START


def members(*pairs: tuple[str, str | None]) -> list[TreeLog]:
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


def test_children_stand_under_their_parents_in_the_order_of_time() -> None:
    built = tree(members(("a", None), ("b", "a"), ("c", None), ("d", "b"), ("e", "a")))
    assert shape(built.roots) == [("a", [("b", ["d"]), "e"]), "c"]
    assert {node.state for _, node in walk(built.roots)} == {"attached"}


def test_a_child_that_came_before_its_parent_is_attached() -> None:
    assert shape(tree(members(("child", "parent"), ("parent", None))).roots) == [("parent", ["child"])]


def test_a_log_whose_parent_is_not_there_is_a_root_and_says_so() -> None:
    built = tree(members(("a", "gone"), ("b", "a")))
    assert shape(built.roots) == [("a", ["b"])]
    assert [(node.id, node.state) for _, node in walk(built.roots)] == [("a", "orphan"), ("b", "attached")]


def test_a_loop_is_broken_at_its_first_log_and_marked() -> None:
    built = tree(members(("a", "c"), ("b", "a"), ("c", "b"), ("d", "b"), ("self", "self")))
    assert shape(built.roots) == [("a", [("b", ["c", "d"])]), "self"]
    assert [node.state for node in built.roots] == ["loop", "loop"]


def test_a_log_that_hangs_on_a_loop_is_not_part_of_it() -> None:
    built = tree(members(("tail", "a"), ("a", "b"), ("b", "a")))
    assert shape(built.roots) == [("a", ["tail", "b"])]
    assert built.roots[0].state == "loop"


def test_a_chain_of_fifty_thousand_is_shown_and_can_be_sent() -> None:
    chain = members(("data_0", None), *((f"data_{n}", f"data_{n - 1}") for n in range(1, 50_000)))
    sent = Tree.model_validate_json(tree(chain).model_dump_json())
    shown = list(walk(sent.roots))
    assert [node.id for _, node in shown] == [member.id for member in chain]
    assert max(depth for depth, _ in shown) == DEEPEST


def test_a_loop_of_fifty_thousand_is_shown() -> None:
    loop = members(*((f"data_{n}", f"data_{n - 1 if n else 49_999}") for n in range(50_000)))
    built = tree(loop)
    assert [node.state for node in built.roots] == ["loop"]
    assert sum(1 for _ in walk(built.roots)) == 50_000


@given(st.lists(st.one_of(st.none(), st.integers(min_value=-1, max_value=30)), max_size=30))
def test_every_log_appears_exactly_once(parents: list[int | None]) -> None:
    logs = members(*((f"data_{n}", None if parent is None else f"data_{parent}") for n, parent in enumerate(parents)))
    shown = list(walk(tree(logs).roots))
    assert sorted(node.id for _, node in shown) == sorted(member.id for member in logs)
    present = {member.id for member in logs}
    for depth, node in shown:
        if node.state == "orphan":
            assert depth == 1
            assert node.parent_id not in present
        if node.state == "loop":
            assert depth == 1
        if depth == 1 and node.state == "attached":
            assert node.parent_id is None
        assert [child.parent_id for child in node.children] == [node.id] * len(node.children)
