"""A new secret for a folder, and the end of the old one."""

from pathlib import Path

import pytest

from deploy.local.errors import Refused
from deploy.local.folder import Folder
from deploy.local.privileges import rotation
from deploy.local.privileges.secrets import Secrets


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.create()
    Secrets.of(made)
    return made


def test_the_old_secret_only_decrypts_and_the_rest_stays(folder: Folder) -> None:
    first = Secrets.of(folder)
    rotation.rotate(folder, {})
    second = Secrets.of(folder)
    assert second.secret != first.secret
    assert second.secret_fallbacks == [first.secret]
    assert (second.bus_passwords, second.mongo_passwords) == (first.bus_passwords, first.mongo_passwords)
    rotation.rotate(folder, {})
    assert Secrets.of(folder).secret_fallbacks == [second.secret, first.secret]


def test_old_secrets_are_dropped_once_a_stack_has_come_up(folder: Folder) -> None:
    assert rotation.drop_old(folder, {}) == 0
    rotation.rotate(folder, {})
    with pytest.raises(Refused, match="no stack has come up since"):
        rotation.drop_old(folder, {})
    rotation.note_ready(folder, {"EVERLOOP_SECRET": "theirs"})  # which says nothing about the folder's
    with pytest.raises(Refused, match="no stack has come up since"):
        rotation.drop_old(folder, {})
    rotation.note_ready(folder, {})
    assert rotation.drop_old(folder, {}) == 1
    assert Secrets.of(folder).secret_fallbacks == []


def test_nothing_changes_while_a_stack_runs(folder: Folder) -> None:
    before = folder.secrets
    running = Folder(folder.path)
    assert running.hold()
    for change in (rotation.rotate, rotation.drop_old):
        with pytest.raises(Refused, match="everloop down"):
            change(folder, {})
    running.let_go()
    assert folder.secrets == before


def test_a_secret_of_the_environment_is_rotated_there(folder: Folder) -> None:
    with pytest.raises(Refused, match="EVERLOOP_SECRET_FALLBACKS"):
        rotation.rotate(folder, {"EVERLOOP_SECRET": "theirs"})


def test_a_folder_without_a_stack_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="holds no stack"):
        rotation.rotate(Folder(tmp_path / "nowhere"), {})
    assert not (tmp_path / "nowhere").exists()
