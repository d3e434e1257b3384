"""The collection `projects`. A project that is being deleted is a document without a name, which no read finds."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import TypeAdapter
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError

from shared import ids, mongo
from shared.contracts.projects import STANDARD_FEEDBACK, Config, CreateProject, FeedbackType, ListProjects, Project
from shared.errors import Conflict, NotFound

_LIVING = {"deleted_at": None}
_ALPHABETICALLY = {"locale": "en", "strength": 2}
"""As people sort names: "apple" before "Zebra"."""
_TYPES: TypeAdapter[list[FeedbackType]] = TypeAdapter(list[FeedbackType])


class Stored(NamedTuple):
    """A project as it is kept."""

    project: Project
    feedback_types: list[FeedbackType]
    feedback_revision: int
    """Counts the definitions; one is saved only onto the revision it was made from. 0: there was none yet."""


def _project(document: mongo.Document) -> Project:
    return Project(
        id=document["_id"],
        name=document["name"],
        config_type=document.get("config_type"),
        directory_id=document.get("directory_id"),
        created_at=document["created_at"],
        updated_at=document["updated_at"],
    )


def _stored(document: mongo.Document) -> Stored:
    types = document.get("feedback_types")
    return Stored(
        _project(document),
        list(STANDARD_FEEDBACK) if types is None else _TYPES.validate_json(types),
        document.get("feedback_revision", 0),
    )


def _new(organisation: str, name: str) -> mongo.Document:
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # as it will be read
    return {
        "organisation": organisation,
        "name": name,
        "config_type": None,
        "first_config_id": None,
        "created_at": now,
        "updated_at": now,
    }


def _taken(name: str) -> Conflict:
    return Conflict(f"There is a project {name!r} already. Choose another name.")


@mongo.store
class ProjectStore:
    """Projects, unique by name."""

    def __init__(self, database: mongo.Database) -> None:
        self._projects = database["projects"]

    async def prepare(self) -> None:
        """Indexes. The unique one makes find-or-create safe, and leaves out what has lost its name."""
        await self._projects.create_index(
            [("organisation", ASCENDING), ("name", ASCENDING)],
            name="names",
            unique=True,
            partialFilterExpression={"name": {"$exists": True}},
        )
        named = {"name": {"$exists": True}}
        await self._projects.create_index(
            [("organisation", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)],
            name="by_time",
            partialFilterExpression=named,
        )
        await self._projects.create_index(
            [("organisation", ASCENDING), ("name", ASCENDING), ("_id", ASCENDING)],
            name="by_name",
            collation=_ALPHABETICALLY,
            partialFilterExpression=named,
        )
        await self._projects.create_index(
            [("deleted_at", ASCENDING)], name="hidden", partialFilterExpression={"deleted_at": {"$exists": True}}
        )

    async def get(self, organisation: str, project_id: str) -> Stored | None:
        """One project by id."""
        document = await self._projects.find_one({"_id": project_id, "organisation": organisation} | _LIVING)
        return _stored(document) if document else None

    async def named(self, organisation: str, name: str) -> Project | None:
        """One project by name."""
        document = await self._projects.find_one({"organisation": organisation, "name": name})
        return _project(document) if document else None

    async def several(self, organisation: str, project_ids: Sequence[str]) -> list[Project]:
        """Those that exist."""
        found = self._projects.find({"_id": {"$in": list(project_ids)}, "organisation": organisation} | _LIVING)
        return [_project(document) async for document in found]

    async def list(self, organisation: str, query: ListProjects) -> tuple[Sequence[Stored], int]:
        """A page of the organisation's projects, and how many match."""
        matching: mongo.Document = {"organisation": organisation, "name": {"$exists": True}}
        if query.name:
            matching["name"] = {"$regex": re.escape(query.name).replace("\x00", r"\x00"), "$options": "i"}
        total = await self._projects.count_documents(matching)
        skipped = query.page.number * query.page.size
        if not 0 <= skipped < total:
            return [], total
        direction = DESCENDING if query.descending else ASCENDING
        found = self._projects.find(
            matching,
            sort=[(query.sort_by, direction), ("_id", direction)],
            skip=skipped,
            limit=query.page.size,
            # Of indexes only those of the same collation are used, so other orders have to do without.
            collation=_ALPHABETICALLY if query.sort_by == "name" else None,
        )
        return [_stored(document) async for document in found], total

    async def ensure(self, organisation: str, name: str) -> tuple[Project, bool]:
        """The project of this name, made if there is none; and whether it was."""
        if project := await self.named(organisation, name):
            return project, False
        wanted, made = {"organisation": organisation, "name": name}, False
        new = {"_id": ids.mint("pr")} | _new(organisation, name)
        with suppress(DuplicateKeyError):  # another caller made it between the look and the write
            written = await self._projects.update_one(wanted, {"$setOnInsert": new}, upsert=True)
            made = written.upserted_id is not None
        project = await self.named(organisation, name)
        if project is None:
            raise NotFound(f"The project {name!r} was deleted or renamed at this moment.")
        return project, made

    async def create(self, command: CreateProject, types: Sequence[FeedbackType]) -> Stored:
        """A new project; the same again if it was made with this id before. Errors: Conflict."""
        organisation, project_id, name = command.organisation, command.id, command.name
        document: mongo.Document = {"_id": project_id, "directory_id": command.directory_id}
        document |= _new(organisation, name)
        document |= {"feedback_types": _TYPES.dump_json([*types]).decode(), "feedback_revision": 1}
        try:
            await self._projects.insert_one(document)
        except DuplicateKeyError:
            stored = await self.get(organisation, project_id)
            if stored is None or stored.project.name != name:
                raise _taken(name) from None
            return stored
        return _stored(document)

    async def change(self, organisation: str, project_id: str, fields: Mapping[str, str]) -> None:
        """Set `name`, `directory_id` or both. Errors: Conflict, NotFound."""
        wanted = {"_id": project_id, "organisation": organisation} | _LIVING
        try:
            written = await self._projects.update_one(wanted, {"$set": {**fields, "updated_at": datetime.now(UTC)}})
        except DuplicateKeyError:
            raise _taken(fields["name"]) from None
        if not written.matched_count:
            raise NotFound(f"There is no project {project_id!r}.")

    async def touch(self, organisation: str, project_id: str, at: datetime) -> bool:
        """Note that it changed at this time; whether it is there."""
        wanted = {"_id": project_id, "organisation": organisation} | _LIVING
        return (await self._projects.update_one(wanted, {"$max": {"updated_at": at}})).matched_count == 1

    async def save_feedback_types(self, organisation: str, before: Stored, types: Sequence[FeedbackType]) -> bool:
        """Whether they were saved; not if others were since `before` was read."""
        wanted: mongo.Document = {
            "_id": before.project.id,
            "organisation": organisation,
            "feedback_revision": before.feedback_revision or None,
        }
        change: mongo.Document = {
            "feedback_types": _TYPES.dump_json([*types]).decode(),
            "feedback_revision": before.feedback_revision + 1,
            "updated_at": datetime.now(UTC),
        }
        return (await self._projects.update_one(wanted | _LIVING, {"$set": change})).matched_count == 1

    async def has_configs(self, organisation: str, project_id: str) -> bool:
        """Whether a first config was registered, as the primary knows it now."""
        wanted = {"_id": project_id, "organisation": organisation, "first_config_id": {"$ne": None}}
        return await self._projects.find_one(wanted, {"_id": 1}) is not None

    async def mark_first(self, organisation: str, project_id: str, config_id: str, config: Config) -> None:
        """Note the first config and its kind; a second note changes nothing."""
        await self._projects.update_one(
            {"_id": project_id, "organisation": organisation, "first_config_id": None},
            {"$set": {"first_config_id": config_id, "config_type": config.type}},
        )

    async def hide(self, organisation: str, project_id: str) -> bool:
        """Begin to delete: no read finds it from here on, and its name is free. False if there is nothing to delete."""
        written = await self._projects.update_one(
            {"_id": project_id, "organisation": organisation},
            {"$set": {"deleted_at": datetime.now(UTC)}, "$unset": {"name": ""}},
        )
        return written.matched_count == 1

    async def hidden(self, before: datetime) -> Sequence[tuple[str, str]]:
        """Organisation and id of the projects, of all organisations, whose deletion began before and did not end."""
        found = self._projects.find({"deleted_at": {"$lt": before}}, {"organisation": 1})
        return [(document["organisation"], document["_id"]) async for document in found]

    async def remove(self, organisation: str, project_id: str) -> None:
        """Finish deleting."""
        await self._projects.delete_one({"_id": project_id, "organisation": organisation})
