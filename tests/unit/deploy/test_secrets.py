"""Secrets and credentials that are generated once and kept."""

import base64
import json
import re
from pathlib import Path

import pytest

from deploy.local.errors import CommandError
from deploy.local.folder import Folder
from deploy.local.privileges.secrets import BUS_USERS, MONGO_USERS, Secrets, write_credentials


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.create()
    return made


def test_secrets_are_generated_once(folder: Folder) -> None:
    first = Secrets.load_or_create(folder)
    assert Secrets.load_or_create(folder) == first
    assert len(base64.urlsafe_b64decode(first.secret)) == 32


def test_every_user_has_a_password_that_nats_reads_as_text(folder: Folder) -> None:
    passwords = Secrets.load_or_create(folder).bus_passwords
    assert set(passwords) == set(BUS_USERS)
    assert len(set(passwords.values())) == len(BUS_USERS)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9]{39}", password) for password in passwords.values())


def test_a_user_that_is_new_gets_a_password_and_the_others_keep_theirs(folder: Folder) -> None:
    first = Secrets.load_or_create(folder)
    kept = folder.secrets
    del kept["bus_passwords"]["authz"]
    folder.secrets = kept
    again = Secrets.load_or_create(folder)
    assert again.bus_passwords["authz"]
    assert again.bus_passwords["gateway"] == first.bus_passwords["gateway"]
    assert again.secret == first.secret


def test_a_folder_from_before_mongodb_had_users_gets_their_passwords(folder: Folder) -> None:
    first = Secrets.load_or_create(folder)
    folder.secrets = {"secret": first.secret, "bus_passwords": first.bus_passwords}
    again = Secrets.load_or_create(folder)
    assert (again.secret, again.bus_passwords) == (first.secret, first.bus_passwords)
    assert set(again.mongo_passwords) == set(MONGO_USERS)
    assert len(again.mongo_key) == 64
    assert Secrets.load_or_create(folder) == again


@pytest.mark.parametrize("damage", [{"bus_passwords": []}, {"mongo_passwords": "x"}, {"secret": 5}])
def test_damaged_secrets_are_not_replaced(folder: Folder, damage: dict[str, object]) -> None:
    Secrets.load_or_create(folder)
    folder.secrets = damaged = folder.secrets | damage
    with pytest.raises(CommandError, match="backup"):
        Secrets.load_or_create(folder)
    assert folder.secrets == damaged


def test_the_first_credentials_follow_the_address_and_keep_the_rest(folder: Folder) -> None:
    key = write_credentials(folder, "http://127.0.0.1:8000/v4")
    first = json.loads(folder.credentials.read_text())
    assert re.fullmatch(r"hl_[A-Za-z0-9]{48}", key)
    assert first["api_key"] == key
    assert first["email"] == "admin@everloop.local"
    assert len(first["password"]) >= 20
    assert folder.credentials.stat().st_mode & 0o777 == 0o600

    assert write_credentials(folder, "http://127.0.0.1:9000/v4") == key
    assert json.loads(folder.credentials.read_text()) == first | {"url": "http://127.0.0.1:9000/v4"}
