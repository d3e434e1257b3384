"""Each service's migrations are listed in the order of their files, whose names say number and purpose."""

import importlib
from pathlib import Path

import pytest

from shared.migrations import Migration
from tests.architecture.tree import ROOT

FOLDERS = sorted((ROOT / "services").glob("*/migrations"))


def listed(folder: Path) -> tuple[Migration, ...]:
    module = importlib.import_module(f"services.{folder.parent.name}.migrations")
    migrations: tuple[Migration, ...] = module.MIGRATIONS
    return migrations


def test_services_with_a_database_have_a_place_for_migrations() -> None:
    assert {folder.parent.name for folder in FOLDERS} >= {"authz", "generation", "logging"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_migrations_are_listed_as_their_files_are_named(folder: Path) -> None:
    files = [path.stem for path in sorted(folder.glob("m*.py"))]
    assert files == [f"m{one.number:04}_{one.name.replace(' ', '_')}" for one in listed(folder)]
    assert [one.number for one in listed(folder)] == list(range(1, len(files) + 1))
