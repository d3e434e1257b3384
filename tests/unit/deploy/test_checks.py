"""Checks of the machine, and what they tell the user to do."""

import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest

from deploy.local import checks
from deploy.local.checks import Severity
from deploy.local.folder import Folder
from deploy.local.servers import binaries
from deploy.local.stack import Options

Usage = namedtuple("Usage", "total used free")


def problems(data: Path, caller: dict[str, str] | None = None, *, with_model: bool = True) -> list[str]:
    results = checks.run_checks(Options(caller or {}, with_model=with_model), Folder(data))
    return [result.text for result in results if result.severity is Severity.FATAL]


def test_this_machine_has_no_problem(tmp_path: Path) -> None:
    assert problems(tmp_path / "not" / "there" / "yet") == []


def test_another_system_is_told_to_use_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert any("Darwin" in text and "deploy/compose.yaml" in text for text in problems(tmp_path))


def test_another_processor_needs_another_mongodb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert any("aarch64" in text and "EVERLOOP_MONGO_URL" in text for text in problems(tmp_path))
    assert problems(tmp_path, {"EVERLOOP_MONGO_URL": "mongodb://db.example"}) == []


@pytest.mark.parametrize(
    ("complaint", "told"),
    [
        ("libssl.so.3: cannot open shared object file", "OpenSSL 3"),
        ("libcrypto.so.3: cannot open shared object file", "OpenSSL 3"),
        ("libcurl.so.4: cannot open shared object file", "library libcurl.so.4"),
    ],
)
def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: str, told: str) -> None:
    said = subprocess.CompletedProcess(
        [], 127, "", f"mongod: error while loading shared libraries: {complaint}: No such file"
    )
    monkeypatch.setattr("subprocess.run", lambda *_, **__: said)
    (text,) = problems(tmp_path)
    assert told in text
    assert "EVERLOOP_MONGO_URL" in text


def test_a_full_disk_stops_and_a_filling_one_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 100 * 1024**2))
    assert any("100 MiB free" in text and "--data" in text for text in problems(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 1024**3))
    assert problems(tmp_path) == []
    assert Severity.WARNING in {result.severity for result in checks.run_checks(Options({}), Folder(tmp_path))}


def test_a_file_is_no_data_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "data"):
        assert any("file is not a folder" in text and "--data" in text for text in problems(path))
        assert checks.check_running_stack(Folder(path)).severity is Severity.FATAL


def test_a_broken_file_of_the_folder_is_one_of_the_problems(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text('{"http": "x"}')
    result = checks.check_running_stack(Folder(tmp_path))
    assert result.severity is Severity.FATAL
    assert "ports.json" in result.text


def test_a_missing_wheel_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for finder in ("find_mongod", "find_nats_server", "find_model_file"):
        monkeypatch.setattr(binaries, finder, lambda: None)
    texts = problems(tmp_path)
    assert [text.split()[0] for text in texts] == ["mongod", "nats-server", "the"]
    assert all("make setup" in text for text in texts)
    assert len(problems(tmp_path, with_model=False)) == 2
