"""Reading the bootstrap file."""

import json
from pathlib import Path

import pytest

from services.authz.bootstrap import read_bootstrap_file

GOOD = {"email": " Ada@Example.org ", "password": "correct horse", "api_key": "hl_" + "a" * 48, "url": "ignored"}


def bootstrap_file(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(GOOD | changes))
    return path


def test_email_password_and_key_are_read(tmp_path: Path) -> None:
    content = read_bootstrap_file(bootstrap_file(tmp_path))
    assert (content.email, content.password.get_secret_value(), content.api_key) == (
        "ada@example.org",
        "correct horse",
        "hl_" + "a" * 48,
    )


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": None}, "email"),
        ({"password": None}, "password"),
        ({"password": ""}, "password"),
        ({"api_key": "hl_guessable"}, "api_key"),
        ({"api_key": "sk-" + "a" * 48}, "api_key"),
    ],
)
def test_an_error_names_the_invalid_field_and_shows_no_secret(
    tmp_path: Path, changes: dict[str, object], wrong: str
) -> None:
    with pytest.raises(ValueError, match=f"Wrong: {wrong}$") as caught:
        read_bootstrap_file(bootstrap_file(tmp_path, **changes))
    assert "correct horse" not in str(caught.value)
    assert "hl_guessable" not in str(caught.value)


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="the whole file"):
        read_bootstrap_file(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_bootstrap_file(tmp_path / "credentials.json")
