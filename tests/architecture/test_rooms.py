"""Each service can be drawn: at most fifteen rooms, imports in one direction only; and folders stay small."""

from collections import Counter
from pathlib import Path

import pytest

from tests.architecture.drawing import Arrows, circle, draw, floors, picture
from tests.architecture.tree import ROOT, name, sources

SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/__init__.py"))
MAX_ROOMS = 15
MAX_FILES = 15
"""Source files directly in one folder, without `__init__.py` and `conftest.py`."""
NOT_COUNTED = {"__init__.py", "conftest.py"}


def drawing(service: str) -> Arrows:
    return draw(ROOT / "services" / service, f"services.{service}")


def test_every_service_is_drawn() -> None:
    assert SERVICES == ["authz", "evaluation", "gateway", "generation", "logging"]
    arrows = drawing("generation")
    assert {"main", "handlers", "store"} <= arrows.keys()
    assert "store" in arrows["projects"]
    assert floors(arrows)[-1] == ["main"]


@pytest.mark.parametrize("service", SERVICES)
def test_no_arrow_of_a_service_leads_back(service: str) -> None:
    arrows = drawing(service)
    assert circle(arrows) == [], picture(arrows)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_at_most_fifteen_rooms(service: str) -> None:
    arrows = drawing(service)
    assert len(arrows) <= MAX_ROOMS, picture(arrows)


def test_a_folder_has_at_most_fifteen_source_files() -> None:
    files = sources("services", "shared", "deploy", "tests", endings=(".py", ".js", ".ts", ".css"))
    counts = Counter(name(path.parent) for path in files if path.name not in NOT_COUNTED)
    too_many = {folder: count for folder, count in counts.items() if count > MAX_FILES}
    assert too_many == {}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of four rooms: `main` imports `handlers`, `handlers` import `store` and `settings`."""
    for path, content in {
        "__init__.py": "",
        "main.py": "import os\nfrom services.x.handlers import logs\n",
        "settings.py": "import services.logging.settings\nfrom shared import ids\n",
        "handlers/__init__.py": "",
        "handlers/logs.py": "from services.x import store\nfrom services.x.handlers import logs\n",
        "store/__init__.py": "",
        "store/deep/__init__.py": "",
        "store/deep/logs.py": "def late():\n    from services.x.settings import Settings\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    return tmp_path


def test_rooms_and_arrows_are_read_from_the_imports(package: Path) -> None:
    arrows = draw(package, "services.x")
    assert arrows == {"main": {"handlers"}, "handlers": {"store"}, "store": {"settings"}, "settings": set()}
    assert floors(arrows) == [["settings"], ["store"], ["handlers"], ["main"]]
    assert circle(arrows) == []
    assert picture(arrows).splitlines() == [
        "4 rooms, 3 arrows",
        "floor 3: main -> handlers",
        "floor 2: handlers -> store",
        "floor 1: store -> settings",
        "floor 0: settings -> -",
    ]


def test_an_arrow_back_is_a_circle_and_is_drawn(package: Path) -> None:
    (package / "settings.py").write_text("from services.x.store.deep import logs\n")
    arrows = draw(package, "services.x")
    assert circle(arrows) == ["handlers", "main", "settings", "store"]
    assert "in a circle, or above one: settings -> store" in picture(arrows)
