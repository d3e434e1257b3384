"""Deleting a project: the order of its steps, and the sweep that finishes interrupted deletions."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.generation.log_writer import LogWriter
from services.generation.projects import deletion as module
from services.generation.projects.deletion import ProjectDeletion
from services.generation.projects.invalidation import Invalidation
from services.generation.store import Stores
from shared.contracts.principal import Actor
from shared.errors import Unavailable


class Recorder:
    """Stores, log writer and invalidation that record the calls made to them, with the project's id."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.marked_deleted: list[tuple[str, str]] = []
        self.marked_before: list[datetime] = []
        self.problem: Exception | None = None
        self.actor: Actor | None = None
        """Of the last message."""
        self.blobs: list[str] = []
        self.list_called, self.deleted = asyncio.Event(), asyncio.Event()
        stores = SimpleNamespace(
            versions=SimpleNamespace(
                list_project_blobs=self._list_project_blobs,
                delete_by_project=self._record("versions.delete_by_project"),
            ),
            deployments=SimpleNamespace(delete_by_project=self._record("deployments.delete_by_project")),
            projects=SimpleNamespace(
                delete=self._record("projects.delete"), list_marked_deleted=self._list_marked_deleted
            ),
        )
        self.deletion = ProjectDeletion(
            cast("Stores", stores),
            cast("Invalidation", SimpleNamespace(publish=self._record_message("publish"))),
            cast("LogWriter", SimpleNamespace(append_deletion=self._record_message("append_deletion"))),
        )

    def _record(self, call: str) -> Any:
        async def recorded(organisation: str, project_id: str) -> None:
            self.calls.append(f"{call} {organisation}/{project_id}")
            if call == "projects.delete":
                self.marked_deleted.remove((organisation, project_id))
                self.deleted.set()

        return recorded

    def _record_message(self, call: str) -> Any:
        async def recorded(message: Any) -> None:
            self.calls.append(f"{call} {message.organisation}/{message.project_id} {getattr(message, 'what', '-')}")
            self.actor = getattr(message, "actor", None)
            self.blobs += getattr(message, "blobs", [])

        return recorded

    async def _list_project_blobs(self, organisation: str, project_id: str) -> set[str]:
        """As the versions name them until they are deleted."""
        assert f"versions.delete_by_project {organisation}/{project_id}" not in self.calls
        return {"digest-2", "digest-1"}

    async def _list_marked_deleted(self, before: datetime) -> list[tuple[str, str]]:
        self.marked_before.append(before)
        self.list_called.set()
        if self.problem:
            raise self.problem
        return list(self.marked_deleted)


STEPS = [
    "append_deletion tm_1/pr_1 -",
    "versions.delete_by_project tm_1/pr_1",
    "deployments.delete_by_project tm_1/pr_1",
    "publish tm_1/pr_1 deleted",
    "projects.delete tm_1/pr_1",
]


async def test_the_change_is_published_after_the_versions_are_deleted_and_the_project_goes_last() -> None:
    recorder = Recorder()
    recorder.marked_deleted = [("tm_1", "pr_1")]
    await recorder.deletion.purge("tm_1", "pr_1", Actor(email="ada@example.org"))
    assert recorder.calls == STEPS
    assert recorder.actor == Actor(email="ada@example.org")
    assert recorder.blobs == ["digest-1", "digest-2"]


async def test_the_sweep_purges_projects_that_were_marked_over_a_minute_ago() -> None:
    recorder = Recorder()
    recorder.marked_deleted = [("tm_1", "pr_1")]
    now = datetime.now(UTC)
    running = asyncio.create_task(recorder.deletion.run())
    async with asyncio.timeout(2):
        await recorder.deleted.wait()
    running.cancel()
    assert recorder.calls == STEPS
    assert timedelta(seconds=55) < now - recorder.marked_before[0] < timedelta(seconds=65)


@pytest.mark.parametrize(
    ("problem", "level"), [(Unavailable("The database is away."), "WARNING"), (RuntimeError("a defect"), "ERROR")]
)
async def test_the_sweep_goes_on_after_an_error_and_logs_it(
    problem: Exception, level: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_SWEEP_INTERVAL_SECONDS", 0.001)
    recorder = Recorder()
    recorder.problem = problem
    running = asyncio.create_task(recorder.deletion.run())
    async with asyncio.timeout(2):
        await recorder.list_called.wait()
        recorder.problem, recorder.marked_deleted = None, [("tm_1", "pr_1")]
        await recorder.deleted.wait()
    running.cancel()
    assert recorder.calls == STEPS
    assert {record.levelname for record in caplog.records if record.name == module.__name__} == {level}
