"""The order in which a deleted project loses what it has."""

from types import SimpleNamespace
from typing import Any, cast

from services.generation.log_writer import LogWriter
from services.generation.projects.deletion import ProjectDeletion
from services.generation.projects.invalidation import Invalidation
from services.generation.store import Stores


async def test_others_forget_after_the_versions_are_gone_and_the_project_goes_last() -> None:
    done: list[str] = []

    def part(name: str, step: str) -> Any:
        async def work(*_: object) -> None:
            done.append(f"{step} {name}")

        return SimpleNamespace(**{step: work})

    stores = SimpleNamespace(**{name: part(name, "remove") for name in ("versions", "deployments", "projects")})
    deletion = ProjectDeletion(
        cast("Stores", stores),
        cast("Invalidation", part("others", "publish")),
        cast("LogWriter", part("logs", "append_deletion")),
    )
    await deletion.finish("tm_1", "pr_1")
    assert done == [
        "append_deletion logs",
        "remove versions",
        "remove deployments",
        "publish others",
        "remove projects",
    ]
