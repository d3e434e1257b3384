"""The file of the first start."""

import json
from pathlib import Path

import pytest

from services.authz.bootstrap import read

GOOD = {"email": " Ada@Example.org ", "password": "correct horse", "api_key": "hl_" + "a" * 48, "url": "ignored"}


def written(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(GOOD | changes))
    return path


def test_what_it_says(tmp_path: Path) -> None:
    first = read(written(tmp_path))
    assert (first.email, first.password.get_secret_value(), first.api_key) == (
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
def test_what_is_wrong_is_named_and_nothing_secret_is_shown(
    tmp_path: Path, changes: dict[str, object], wrong: str
) -> None:
    with pytest.raises(ValueError, match=f"Wrong: {wrong}$") as caught:
        read(written(tmp_path, **changes))
    assert "correct horse" not in str(caught.value)
    assert "hl_guessable" not in str(caught.value)


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="the whole file"):
        read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read(tmp_path / "credentials.json")
