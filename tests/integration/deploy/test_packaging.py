"""What an image is built from, and what the wheel and the sdist hold: all that runs, and no secret beside it."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from docker.utils.build import PatternMatcher

from tests.architecture.tree import ROOT, files

SERVICES = ("authz", "evaluation", "gateway", "generation", "logging")
MARK = "planted-secret-of-this-test"
PLANTED = (
    ".env", ".everloop/secrets.json", ".everloop/mongo.key", "server.pem", "providers.env",
    "deploy/.env", "deploy/credentials.json", "deploy/providers.env", "deploy/mongo.key", "deploy/tls.pem",
    "deploy/secrets/credentials.json",
    "deploy/local/.env", "deploy/local/state.json", "deploy/local/privileges/id_rsa",
    "services/.env", "services/authz/key.pem", "services/generation/models/.env", "services/gateway/credentials.json",
    "shared/.env", "shared/secrets.toml", "shared/contracts/client.key",
)  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which somebody has worked."""
    root = tmp_path_factory.mktemp("tree")
    for path in files():
        copy = root / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    for name in PLANTED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(MARK)
    return root


@pytest.fixture(scope="module")
def context(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `docker build` sends to the engine, as Docker's own library reads the patterns of .dockerignore.

    File by file, as BuildKit does; the walk of that library leaves out folders like the builder before it.
    """
    sent = tmp_path_factory.mktemp("context")
    lines = (line.strip() for line in (tree / ".dockerignore").read_text().splitlines())
    ignored = PatternMatcher([line for line in lines if line and not line.startswith("#")])
    for source in tree.rglob("*"):
        name = str(source.relative_to(tree))
        if source.is_file() and not ignored.matches(name):
            (sent / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, sent / name)
    return sent


def build(root: Path, folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist, made as pip makes them."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tree, tmp_path_factory.mktemp("built"))


def contents(archive: Path) -> dict[str, bytes]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(archive) as sdist:
        found = {member.name: sdist.extractfile(member) for member in sdist}
        return {name.partition("/")[2]: file.read() for name, file in found.items() if file is not None}


def that_run() -> set[str]:
    """The files of the project that the services and `everloop` need."""
    names = {str(path.relative_to(ROOT)) for path in files()}
    return {name for name in names if name.startswith(("services/", "shared/", "deploy/local/"))} | {
        "deploy/__init__.py",
        "deploy/nats.conf",
    }


def test_a_build_context_holds_what_the_image_is_made_of_and_nothing_else(context: Path) -> None:
    sent = {str(path.relative_to(context)) for path in context.rglob("*") if path.is_file()}
    wanted = that_run() | {"LICENSE", "README.md", "pyproject.toml", "requirements.lock"}
    assert sent - {".dockerignore"} == wanted  # which Docker reads and always sends
    assert not [name for name in sent if MARK.encode() in (context / name).read_bytes()]


def test_a_wheel_holds_what_runs_and_nothing_else(built: tuple[Path, Path]) -> None:
    found = contents(built[0])
    assert {name for name in found if ".dist-info/" not in name} == that_run()
    assert not [name for name, data in found.items() if MARK.encode() in data]


def test_a_source_distribution_holds_no_secret(built: tuple[Path, Path]) -> None:
    found = contents(built[1])
    beside = {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert set(found) == that_run() | beside
    assert not [name for name, data in found.items() if MARK.encode() in data]


def test_the_wheel_made_from_a_build_context_is_the_same(
    context: Path, built: tuple[Path, Path], tmp_path: Path
) -> None:
    assert contents(build(context, tmp_path)[0]) == contents(built[0])


def test_everything_runs_from_the_wheel_alone(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Installed into a folder of its own; the project itself is kept off the path, its dependencies are on it."""
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(tmp_path)]
    subprocess.run([*install, str(built[0])], check=True, capture_output=True)
    check = f"""
import sys
sys.path = [entry for entry in sys.path if entry != {str(ROOT)!r}]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
import {", ".join(f"services.{name}.main" for name in SERVICES)}
import deploy.local.cli.main, deploy.local.servers.replica_set
from deploy.local.servers.nats_server import NATS_CONFIG
from services.generation import models
assert NATS_CONFIG.read_text().startswith("#")
assert models.find_model("openai", "gpt-4o") is not None
ours = [module for name, module in sys.modules.items() if name.split(".")[0] in ("services", "shared", "deploy")]
strangers = {{str(module.__file__) for module in ours if not str(module.__file__).startswith({str(tmp_path)!r})}}
assert not strangers, strangers
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", check],
        env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_image_runs_as_nobody_in_particular_and_copies_nothing_but_what_was_installed() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    last_stage = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM")) :]
    assert [line for line in last_stage if line.startswith(("COPY", "ADD"))] == ["COPY --from=build /venv /venv"]
    assert "USER 10001" in last_stage
    assert not [line for line in lines if "ARG" in line or "EVERLOOP_SECRET" in line]
