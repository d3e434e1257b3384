"""Rotating the secret of a data folder, and deleting the old one."""

from pathlib import Path

import pytest

from deploy.local.errors import CommandError
from deploy.local.folder import Folder
from deploy.local.privileges import secret_rotation
from deploy.local.privileges.secrets import Secrets


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.create()
    Secrets.load_or_create(made)
    return made


def test_after_a_rotation_the_old_secret_only_decrypts_and_passwords_stay(folder: Folder) -> None:
    first = Secrets.load_or_create(folder)
    secret_rotation.rotate(folder, {})
    second = Secrets.load_or_create(folder)
    assert second.secret != first.secret
    assert second.secret_fallbacks == [first.secret]
    assert (second.bus_passwords, second.mongo_passwords) == (first.bus_passwords, first.mongo_passwords)
    secret_rotation.rotate(folder, {})
    assert Secrets.load_or_create(folder).secret_fallbacks == [second.secret, first.secret]


def test_old_secrets_are_dropped_once_a_stack_has_come_up(folder: Folder) -> None:
    assert secret_rotation.drop_old(folder, {}) == 0
    secret_rotation.rotate(folder, {})
    with pytest.raises(CommandError, match="no stack has come up since"):
        secret_rotation.drop_old(folder, {})
    secret_rotation.mark_reencrypted(folder, {"EVERLOOP_SECRET": "theirs"})  # which says nothing about the folder's
    with pytest.raises(CommandError, match="no stack has come up since"):
        secret_rotation.drop_old(folder, {})
    secret_rotation.mark_reencrypted(folder, {})
    assert secret_rotation.drop_old(folder, {}) == 1
    assert Secrets.load_or_create(folder).secret_fallbacks == []


def test_a_start_on_another_mongodb_does_not_let_the_old_secret_go(folder: Folder) -> None:
    secret_rotation.rotate(folder, {})
    secret_rotation.mark_reencrypted(folder, {"EVERLOOP_MONGO_URL": "mongodb://elsewhere"})
    with pytest.raises(CommandError, match="without EVERLOOP_MONGO_URL"):
        secret_rotation.drop_old(folder, {})
    assert len(Secrets.load_or_create(folder).secret_fallbacks) == 1
    secret_rotation.mark_reencrypted(folder, {"EVERLOOP_MONGO_URL": ""})  # which is as if it were not set
    assert secret_rotation.drop_old(folder, {}) == 1


def test_secrets_are_not_changed_while_a_stack_runs(folder: Folder) -> None:
    before = folder.secrets
    running = Folder(folder.path)
    assert running.acquire_lock()
    for change in (secret_rotation.rotate, secret_rotation.drop_old):
        with pytest.raises(CommandError, match=f"everloop down --data {folder.path}"):
            change(folder, {})
    running.release_lock()
    assert folder.secrets == before


def test_a_secret_from_the_environment_cannot_be_rotated(folder: Folder) -> None:
    with pytest.raises(CommandError, match="EVERLOOP_SECRET_FALLBACKS"):
        secret_rotation.rotate(folder, {"EVERLOOP_SECRET": "theirs"})


def test_a_folder_without_a_stack_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="holds no stack"):
        secret_rotation.rotate(Folder(tmp_path / "nowhere"), {})
    assert not (tmp_path / "nowhere").exists()
