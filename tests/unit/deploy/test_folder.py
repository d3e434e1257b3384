"""Files and lock of a data folder."""

from pathlib import Path

import pytest

from deploy.local.errors import CommandError
from deploy.local.folder import LOG_BYTES, Folder, write_private


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "data")
    made.create()
    return made


def test_only_one_process_has_the_lock(folder: Folder) -> None:
    other = Folder(folder.path)
    assert folder.acquire_lock()
    assert other.is_locked
    assert not other.acquire_lock()
    folder.release_lock()
    assert not other.is_locked
    assert other.acquire_lock()
    other.release_lock()


def test_a_folder_that_does_not_exist_is_not_locked(tmp_path: Path) -> None:
    assert not Folder(tmp_path / "nowhere").is_locked


def test_what_is_written_is_for_its_owner_only(folder: Folder) -> None:
    folder.secrets = {"secret": "s"}
    assert folder.secrets == {"secret": "s"}
    assert (folder.path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_a_failed_write_leaves_the_old_file_and_nothing_else(folder: Folder) -> None:
    folder.ports = {"http": 1}
    before = sorted(folder.path.iterdir())
    with pytest.raises(TypeError):
        write_private(folder.path / "ports.json", {"http": object()})
    assert folder.ports == {"http": 1}
    assert sorted(folder.path.iterdir()) == before


def test_a_broken_file_is_named(folder: Folder) -> None:
    (folder.path / "ports.json").write_text("{")
    with pytest.raises(CommandError, match=r"ports\.json cannot be read"):
        _ = folder.ports


def test_a_broken_state_is_as_good_as_none(folder: Folder) -> None:
    (folder.path / "state.json").write_text("")
    assert folder.state == {}


@pytest.mark.parametrize("content", ['{"http": "x"}', '{"http": true}', '{"http": 0}', "[8000]"])
def test_ports_that_are_none_are_named(folder: Folder, content: str) -> None:
    (folder.path / "ports.json").write_text(content)
    with pytest.raises(CommandError, match=r"ports\.json holds .* remove it"):
        _ = folder.ports


@pytest.mark.parametrize("content", ["[]", "{"])
def test_nobody_is_told_to_remove_secrets_without_what_is_lost_by_it(folder: Folder, content: str) -> None:
    (folder.path / "secrets.json").write_text(content)
    with pytest.raises(CommandError, match=r"secrets\.json .* backup.* stored keys are lost"):
        _ = folder.secrets


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="--data"):
        Folder(tmp_path / "file" / "data").create()


def test_only_large_logs_are_rotated(folder: Folder) -> None:
    folder.log("small").write_text("kept")
    with folder.log("large").open("wb") as file:
        file.truncate(LOG_BYTES + 1)
    folder.rotate_logs()
    assert sorted(log.name for log in folder.logs.iterdir()) == ["large.log.1", "small.log"]
