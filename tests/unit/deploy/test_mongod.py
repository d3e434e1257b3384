"""The folder of mongod before it is started: emptied only if mongod has never been ready in it."""

from pathlib import Path

import pytest

from deploy.local.folder import Folder
from deploy.local.servers.mongod import empty_unless_once_ready


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "data")
    made.create()
    return made


def test_a_first_start_is_marked(folder: Folder) -> None:
    empty_unless_once_ready(folder)
    assert folder.mongod_begun.exists()


def test_what_a_killed_first_start_left_is_removed(folder: Folder) -> None:
    empty_unless_once_ready(folder)
    (folder.mongod / "journal").mkdir()
    (folder.mongod / "WiredTiger.wt").write_bytes(b"half of it")
    empty_unless_once_ready(folder)
    assert list(folder.mongod.iterdir()) == []
    assert folder.mongod_begun.exists()


@pytest.mark.parametrize("was_begun", [True, False], ids=["by this version", "by an earlier one"])
def test_what_was_ready_once_is_kept(folder: Folder, was_begun: bool) -> None:
    if was_begun:
        empty_unless_once_ready(folder)
        folder.mongod_begun.unlink()  # when mongod was ready
    (folder.mongod / "WiredTiger.wt").write_bytes(b"all of it")
    for _ in range(2):
        empty_unless_once_ready(folder)
    assert (folder.mongod / "WiredTiger.wt").read_bytes() == b"all of it"
    assert not folder.mongod_begun.exists()
