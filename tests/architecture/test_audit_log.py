"""The audit log is appended to and read: no code updates or deletes an entry, no other code opens its collection."""

import ast

from tests.architecture.tree import ROOT, sources

STORE = ROOT / "services" / "authz" / "store" / "audit.py"
_READS_AND_INSERTS = {"create_index", "find", "insert_many"}


def test_the_store_of_the_audit_log_only_inserts_and_reads() -> None:
    called = {
        node.func.attr
        for node in ast.walk(ast.parse(STORE.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if ast.unparse(node.func.value) == "self._audit"
    }
    assert called == _READS_AND_INSERTS


def test_nothing_else_opens_its_collection() -> None:
    for path in sources("services", "shared"):
        collections = [
            node.slice.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
            if ast.unparse(node.value).endswith("database")
        ]
        assert ("audit" in collections) is (path == STORE), path
