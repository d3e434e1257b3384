"""Which secrets deploy/compose_secrets.py draws, and which container of deploy/compose.yaml is given which."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.privileges import environment, mongo_users
from deploy.local.privileges.secrets import BUS_USERS, MONGO_USERS
from deploy.local.services import NAMES

DEPLOY = Path(__file__).parents[3] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CONTAINERS = COMPOSE["services"]
_NOT_SETTINGS = {"SERVICE", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"}


def variables(container: str) -> dict[str, str]:
    """The names of `deploy/.env` that each variable of a container is filled with."""
    given: dict[str, str] = CONTAINERS[container].get("environment", {})
    return {name: match[1] for name, value in given.items() if (match := re.match(r"\$\{(\w+)", value))}


def secrets_of(container: str) -> set[str]:
    return {name for name in variables(container).values() if name.startswith("EVERLOOP_")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(DEPLOY / "compose_secrets.py", tmp_path)
    return tmp_path


def draw(folder: Path) -> dict[str, str]:
    subprocess.run([sys.executable, folder / "compose_secrets.py"], check=True, capture_output=True)
    return dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines())


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_every_variable_that_a_container_wants_is_drawn(folder: Path) -> None:
    wanted = set().union(*(secrets_of(name) for name in CONTAINERS)) - {"EVERLOOP_SECRET_FALLBACKS"}
    wanted |= {secret["environment"] for secret in COMPOSE["secrets"].values()}
    assert set(draw(folder)) == wanted


def test_what_was_drawn_is_kept_and_for_its_owner_only(folder: Path) -> None:
    first, credentials = draw(folder), json.loads((folder / "secrets/credentials.json").read_text())
    assert draw(folder) == first
    assert json.loads((folder / "secrets/credentials.json").read_text()) == credentials
    assert (folder / "mongo.key").read_text() == first["EVERLOOP_MONGO_KEY"]
    for name in (".env", "mongo.key", "secrets/credentials.json"):
        assert mode(folder / name) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == [".env", "compose_secrets.py", "mongo.key", "secrets"]
    assert [path.name for path in (folder / "secrets").iterdir()] == ["credentials.json"]


def test_authz_is_given_the_admins_credentials_although_its_user_cannot_read_the_file(folder: Path) -> None:
    quoted = draw(folder)[COMPOSE["secrets"]["bootstrap"]["environment"]]
    assert quoted[0] == quoted[-1] == "'", "compose takes what is in single quotes as it is"
    assert json.loads(quoted[1:-1]) == json.loads((folder / "secrets/credentials.json").read_text())
    assert CONTAINERS["authz"]["environment"]["EVERLOOP_BOOTSTRAP_FILE"] == "/run/secrets/bootstrap"
    assert [name for name in CONTAINERS if "secrets" in CONTAINERS[name]] == ["authz"]
    assert CONTAINERS["authz"]["secrets"] == ["bootstrap"]


def test_authz_is_given_new_credentials_when_there_are_new_ones(folder: Path) -> None:
    first = draw(folder)
    (folder / "secrets/credentials.json").unlink()
    second = draw(folder)
    assert json.loads(second["EVERLOOP_BOOTSTRAP"][1:-1]) == json.loads(
        (folder / "secrets/credentials.json").read_text()
    )
    assert first | {"EVERLOOP_BOOTSTRAP": ""} == second | {"EVERLOOP_BOOTSTRAP": ""}
    assert (folder / ".env").read_text().count("EVERLOOP_BOOTSTRAP=") == 1


def test_what_holds_a_secret_is_private_from_its_first_byte(folder: Path) -> None:
    """No mode is taken away later: in between, others could open the file."""
    draw(folder)
    script = repr(str(folder / "compose_secrets.py"))
    program = f"import os, runpy; os.umask(0); runpy.run_path({script}, run_name='__main__')"
    for name in (".env", "mongo.key", "secrets/credentials.json"):
        (folder / name).unlink()
    traced = "import pathlib; pathlib.Path.chmod = lambda *_: None; " + program
    subprocess.run([sys.executable, "-c", traced], check=True, capture_output=True)
    for name in (".env", "mongo.key", "secrets/credentials.json"):
        assert mode(folder / name) == 0o600


def test_files_that_an_earlier_version_left_readable_are_made_private(folder: Path) -> None:
    draw(folder)
    (folder / "secrets").chmod(0o755)
    for name in (".env", "mongo.key", "secrets/credentials.json"):
        (folder / name).chmod(0o644)
    draw(folder)
    assert mode(folder / "secrets") == 0o700
    for name in (".env", "mongo.key", "secrets/credentials.json"):
        assert mode(folder / name) == 0o600


def test_credentials_of_an_earlier_installation_are_moved_out_of_everybodys_sight(folder: Path) -> None:
    (folder / "credentials.json").write_text('{"api_key": "kept"}')
    draw(folder)
    assert not (folder / "credentials.json").exists()
    assert json.loads((folder / "secrets/credentials.json").read_text()) == {"api_key": "kept"}
    assert mode(folder / "secrets/credentials.json") == 0o600


def test_an_installation_from_before_mongodb_had_users_gets_what_it_lacks(folder: Path) -> None:
    (folder / ".env").write_text("EVERLOOP_SECRET=kept=\n# a remark\nOTEL_EXPORTER_OTLP_ENDPOINT=http://collector\n")
    subprocess.run([sys.executable, folder / "compose_secrets.py"], check=True, capture_output=True)
    lines = (folder / ".env").read_text().splitlines()
    assert lines[:3] == ["EVERLOOP_SECRET=kept=", "# a remark", "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector"]
    assert sum(line.startswith("EVERLOOP_SECRET=") for line in lines) == 1
    assert sum(line.startswith("EVERLOOP_MONGO_PASSWORD_") for line in lines) == len(MONGO_USERS)


@pytest.mark.parametrize("name", NAMES)
def test_a_service_is_given_its_own_secrets_and_settings(name: str) -> None:
    wanted = {f"EVERLOOP_NATS_PASSWORD_{name.upper()}"}
    if name in environment.DATABASES:
        wanted.add(f"EVERLOOP_MONGO_PASSWORD_{name.upper()}")
    if name in environment.ENCRYPTING:
        wanted |= {"EVERLOOP_SECRET", "EVERLOOP_SECRET_FALLBACKS"}
    assert secrets_of(name) == wanted
    given = CONTAINERS[name]["environment"]
    assert given["EVERLOOP_NATS_USER"] == given.get("EVERLOOP_MONGO_USER", name) == given["SERVICE"] == name
    assert given.keys() - _NOT_SETTINGS <= environment.settings_variables(environment.SETTINGS[name])


def test_the_servers_are_given_no_more_than_they_need() -> None:
    assert secrets_of("nats") == {f"EVERLOOP_NATS_PASSWORD_{user.upper()}" for user in BUS_USERS}
    assert "environment" not in CONTAINERS["mongo"]


def test_users_are_made_by_the_code_of_the_local_stack() -> None:
    given = variables("mongo-users")
    assert given == {name: name for name in given}
    assert given.keys() == mongo_users.to_environment("", dict.fromkeys(MONGO_USERS, ""), "").keys()
    assert CONTAINERS["mongo-users"]["command"][:4] == ["python", "-P", "-m", "deploy.local.servers.replica_set"]
