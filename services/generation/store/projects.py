"""The collection `projects`. A project that is being deleted has `deleted_at` and no name, and no read returns it."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import TypeAdapter
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError

from shared import ids, mongo
from shared.contracts.generation.projects import (
    STANDARD_FEEDBACK,
    Config,
    CreateProject,
    FeedbackType,
    ListProjects,
    Project,
)
from shared.errors import Conflict, NotFound

_NOT_DELETED = {"deleted_at": None}
_CASE_INSENSITIVE = {"locale": "en", "strength": 2}
"""Collation that sorts names as people do: "apple" before "Zebra"."""
_FEEDBACK_TYPES: TypeAdapter[list[FeedbackType]] = TypeAdapter(list[FeedbackType])


class StoredProject(NamedTuple):
    """A project with the types of feedback that are defined in it."""

    project: Project
    feedback_types: list[FeedbackType]
    feedback_revision: int
    """Counts the saved definitions of feedback types; 0: none yet. `save_feedback_types` compares it."""


def _project(document: mongo.Document) -> Project:
    return Project(
        id=document["_id"],
        name=document["name"],
        config_type=document.get("config_type"),
        directory_id=document.get("directory_id"),
        created_at=document["created_at"],
        updated_at=document["updated_at"],
    )


def _stored(document: mongo.Document) -> StoredProject:
    types = document.get("feedback_types")
    return StoredProject(
        _project(document),
        list(STANDARD_FEEDBACK) if types is None else _FEEDBACK_TYPES.validate_json(types),
        document.get("feedback_revision", 0),
    )


def _new_document(organisation: str, name: str) -> mongo.Document:
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # BSON dates have milliseconds
    return {
        "organisation": organisation,
        "name": name,
        "config_type": None,
        "first_config_id": None,
        "created_at": now,
        "updated_at": now,
    }


def _name_conflict(name: str) -> Conflict:
    return Conflict(f"There is a project {name!r} already. Choose another name.")


@mongo.raises_unavailable
class ProjectStore:
    """Reads and writes projects; names are unique within an organisation."""

    def __init__(self, database: mongo.Database) -> None:
        self._projects = database["projects"]

    async def prepare(self) -> None:
        """Create the indexes.

        The unique one makes `find_or_insert` safe; projects that are being deleted have no name and are not in it.
        """
        await self._projects.create_index(
            [("organisation", ASCENDING), ("name", ASCENDING)],
            name="names",
            unique=True,
            partialFilterExpression={"name": {"$exists": True}},
        )
        has_name = {"name": {"$exists": True}}
        await self._projects.create_index(
            [("organisation", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)],
            name="by_time",
            partialFilterExpression=has_name,
        )
        await self._projects.create_index(
            [("organisation", ASCENDING), ("name", ASCENDING), ("_id", ASCENDING)],
            name="by_name",
            collation=_CASE_INSENSITIVE,
            partialFilterExpression=has_name,
        )
        await self._projects.create_index(
            [("deleted_at", ASCENDING)], name="hidden", partialFilterExpression={"deleted_at": {"$exists": True}}
        )

    async def get(self, organisation: str, project_id: str) -> StoredProject | None:
        """Return the project with this id; None if there is none."""
        document = await self._projects.find_one({"_id": project_id, "organisation": organisation} | _NOT_DELETED)
        return _stored(document) if document else None

    async def find_by_name(self, organisation: str, name: str) -> Project | None:
        """Return the project of this name; None if there is none."""
        document = await self._projects.find_one({"organisation": organisation, "name": name})
        return _project(document) if document else None

    async def get_many(self, organisation: str, project_ids: Sequence[str]) -> list[Project]:
        """Return the projects with these ids, in no order; ids without a project are left out."""
        cursor = self._projects.find({"_id": {"$in": list(project_ids)}, "organisation": organisation} | _NOT_DELETED)
        return [_project(document) async for document in cursor]

    async def list_page(self, organisation: str, query: ListProjects) -> tuple[list[StoredProject], int]:
        """Return the page of the organisation's projects that `query` asks for, and the count of all that match it."""
        filter_: mongo.Document = {"organisation": organisation, "name": {"$exists": True}}
        if query.principal is not None and query.principal.projects is not None:
            filter_["_id"] = {"$in": list(query.principal.projects)}
        if query.name:
            filter_["name"] = {"$regex": re.escape(query.name).replace("\x00", r"\x00"), "$options": "i"}
        total = await self._projects.count_documents(filter_)
        skip = query.page.number * query.page.size
        if not 0 <= skip < total:
            return [], total
        direction = DESCENDING if query.descending else ASCENDING
        cursor = self._projects.find(
            filter_,
            sort=[(query.sort_by, direction), ("_id", direction)],
            skip=skip,
            limit=query.page.size,
            # MongoDB uses only indexes of the same collation, so other orders have to do without.
            collation=_CASE_INSENSITIVE if query.sort_by == "name" else None,
        )
        return [_stored(document) async for document in cursor], total

    async def insert_named(self, organisation: str, name: str, session: mongo.Session) -> str | None:
        """Insert a project and return its id; None, with nothing stored, if there is one of this name."""
        query = {"organisation": organisation, "name": name}
        document = {"_id": ids.mint("pr")} | _new_document(organisation, name)
        try:
            result = await self._projects.update_one(query, {"$setOnInsert": document}, upsert=True, session=session)
        except DuplicateKeyError:  # another caller inserted it since it was looked for
            return None
        return None if result.upserted_id is None else str(result.upserted_id)

    async def insert(
        self, command: CreateProject, types: Sequence[FeedbackType], session: mongo.Session
    ) -> StoredProject | None:
        """Insert a project and return it; None, with nothing stored, if the command is repeated.

        Raises Conflict if another project has the name.
        """
        organisation, project_id, name = command.organisation, command.id, command.name
        document: mongo.Document = {"_id": project_id, "directory_id": command.directory_id}
        document |= _new_document(organisation, name)
        document |= {"feedback_types": _FEEDBACK_TYPES.dump_json([*types]).decode(), "feedback_revision": 1}
        try:
            await self._projects.insert_one(document, session=session)
        except DuplicateKeyError:
            stored = await self.get(organisation, project_id)
            if stored is None or stored.project.name != name:
                raise _name_conflict(name) from None
            return None
        return _stored(document)

    async def update(
        self, organisation: str, project_id: str, fields: Mapping[str, str], session: mongo.Session
    ) -> Mapping[str, str]:
        """Set `name`, `directory_id` or both, and return them. Raises Conflict if the name is taken, NotFound."""
        query = {"_id": project_id, "organisation": organisation} | _NOT_DELETED
        try:
            change = {"$set": {**fields, "updated_at": datetime.now(UTC)}}
            result = await self._projects.update_one(query, change, session=session)
        except DuplicateKeyError:
            raise _name_conflict(fields["name"]) from None
        if not result.matched_count:
            raise NotFound(f"There is no project {project_id!r}.")
        return fields

    async def update_modified_time(self, organisation: str, project_id: str, at: datetime) -> bool:
        """Set `updated_at` to `at` unless it is later already; return False if there is no such project."""
        query = {"_id": project_id, "organisation": organisation} | _NOT_DELETED
        return (await self._projects.update_one(query, {"$max": {"updated_at": at}})).matched_count == 1

    async def save_feedback_types(
        self, organisation: str, before: StoredProject, types: Sequence[FeedbackType], session: mongo.Session
    ) -> bool:
        """Save the types of feedback; return False if others were saved since `before` was read."""
        query: mongo.Document = {
            "_id": before.project.id,
            "organisation": organisation,
            "feedback_revision": before.feedback_revision or None,
        }
        change: mongo.Document = {
            "feedback_types": _FEEDBACK_TYPES.dump_json([*types]).decode(),
            "feedback_revision": before.feedback_revision + 1,
            "updated_at": datetime.now(UTC),
        }
        result = await self._projects.update_one(query | _NOT_DELETED, {"$set": change}, session=session)
        return result.matched_count == 1

    async def has_configs(self, organisation: str, project_id: str) -> bool:
        """Return whether a first config was registered, read from the primary."""
        query = {"_id": project_id, "organisation": organisation, "first_config_id": {"$ne": None}}
        return await self._projects.find_one(query, {"_id": 1}) is not None

    async def save_first_config(self, organisation: str, project_id: str, config_id: str, config: Config) -> None:
        """Save the id and the type of the project's first config; if one is saved already, nothing changes."""
        await self._projects.update_one(
            {"_id": project_id, "organisation": organisation, "first_config_id": None},
            {"$set": {"first_config_id": config_id, "config_type": config.type}},
        )

    async def mark_deleted(self, organisation: str, project_id: str, session: mongo.Session) -> bool:
        """Set `deleted_at` and free the name: no read returns the project any more. Return False if there is none."""
        result = await self._projects.update_one(
            {"_id": project_id, "organisation": organisation},
            {"$set": {"deleted_at": datetime.now(UTC)}, "$unset": {"name": ""}},
            session=session,
        )
        return result.matched_count == 1

    async def list_marked_deleted(self, before: datetime) -> list[tuple[str, str]]:
        """Return (organisation, project id) of all projects marked deleted before this time that still exist."""
        cursor = self._projects.find({"deleted_at": {"$lt": before}}, {"organisation": 1})
        return [(document["organisation"], document["_id"]) async for document in cursor]

    async def delete(self, organisation: str, project_id: str) -> None:
        """Delete the document: the last step of deleting a project."""
        await self._projects.delete_one({"_id": project_id, "organisation": organisation})
