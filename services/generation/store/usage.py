"""The collection `usage`: what calls to models used and cost in a month.

A *row* has the counts of one combination of dimensions; a *total* the spend of an organisation, project or API key, for
budgets. Writing a batch again changes nothing: each document has the number of the last batch of each writer.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from pymongo import ASCENDING, UpdateOne

from shared import ids, mongo
from shared.contracts.generation.usage import BudgetScope, Dimension, GetUsage, UsageRow

_MAX_WRITERS = 32
"""Whose last batch a document keeps; a writer is one process. Only a batch that is written again while so many others
write the same document would count twice."""


class UsageKey(NamedTuple):
    """The dimensions of a row, as in the contract's `UsageRow`."""

    organisation: str
    month: str
    provider: str
    model: str
    project_id: str
    environment: str | None
    key_id: str | None
    user_id: str | None


class SpendKey(NamedTuple):
    """Whose spend a total is."""

    organisation: str
    month: str
    scope: BudgetScope
    scope_id: str | None

    @classmethod
    def of(cls, key: UsageKey) -> "list[SpendKey]":
        """Return the totals that a row counts for."""
        found = [
            cls(key.organisation, key.month, "organisation", None),
            cls(key.organisation, key.month, "project", key.project_id),
        ]
        return [*found, cls(key.organisation, key.month, "key", key.key_id)] if key.key_id else found


@dataclass
class Counts:
    """What is counted in a row; the contract's `Usage` says what each is."""

    calls: int = 0
    failed_calls: int = 0
    unpriced_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_nanos: int = 0

    def add(self, other: "Counts") -> None:
        """Add each count of `other`."""
        for each in _COUNTS:
            setattr(self, each, getattr(self, each) + getattr(other, each))


_COUNTS = tuple(each.name for each in fields(Counts))


@dataclass
class UsageBatch:
    """Increments of many calls, added up for each document."""

    rows: dict[UsageKey, Counts] = field(default_factory=dict)
    spend: Counter[SpendKey] = field(default_factory=Counter)
    """Nano-dollars."""

    def add(self, key: UsageKey, counts: Counts) -> None:
        """Add the counts of a call to its row, and its cost to the totals."""
        self.rows.setdefault(key, Counts()).add(counts)
        if counts.cost_nanos:
            for total in SpendKey.of(key):
                self.spend[total] += counts.cost_nanos


@mongo.raises_unavailable
class UsageStore:
    """Adds to usage and sums it."""

    def __init__(self, database: mongo.Database) -> None:
        self._usage = database["usage"]

    async def prepare(self) -> None:
        """Create the indexes."""
        await self._usage.create_index([("organisation", ASCENDING), ("month", ASCENDING)])

    async def add(self, batch: UsageBatch, writer: str, number: int) -> None:
        """Add a batch, durably. It may be repeated until it succeeds, before `writer` adds the next `number`."""
        updates = [
            _increment(_row_id(key), key._asdict(), {each: getattr(counts, each) for each in _COUNTS}, (writer, number))
            for key, counts in batch.rows.items()
        ]
        updates += [
            _increment(_total_id(key), key._asdict(), {"cost_nanos": nanos}, (writer, number))
            for key, nanos in batch.spend.items()
        ]
        if updates:
            await self._usage.bulk_write(updates, ordered=False)

    async def get_spend(self, keys: Iterable[SpendKey]) -> dict[SpendKey, int]:
        """Return nano-dollars; 0 for what nothing was spent on."""
        wanted = {_total_id(key): key for key in keys}
        spent = dict.fromkeys(wanted.values(), 0)
        async for document in self._usage.find({"_id": {"$in": list(wanted)}}, {"cost_nanos": 1}):
            spent[wanted[document["_id"]]] = document["cost_nanos"]
        return spent

    async def has_project(self, organisation: str, project_id: str) -> bool:
        """Return whether a project of the organisation, perhaps a deleted one, has used something."""
        found = await self._usage.find_one({"organisation": organisation, "project_id": project_id}, {"_id": 1})
        return found is not None

    async def sum(self, organisation: str, query: GetUsage, limit: int) -> list[UsageRow]:
        """Return the sums of each group, at most `limit`, by month and falling cost."""
        filters: mongo.Document = {
            "organisation": organisation,
            "month": {"$gte": query.first_month, "$lte": query.last_month},
            "scope": None,  # no totals
        }
        filters |= _filters(query.filters)
        group: mongo.Document = {"_id": {dimension: f"${dimension}" for dimension in query.group_by}}
        group |= {each: {"$sum": f"${each}"} for each in _COUNTS}
        order = {"_id.month": 1, "cost_nanos": -1, "calls": -1, "_id": 1}
        pipeline: list[mongo.Document] = [{"$match": filters}, {"$group": group}, {"$sort": order}, {"$limit": limit}]
        return [_row(document) async for document in self._usage.aggregate(pipeline)]


def _filters(filters: Mapping[Dimension, str]) -> mongo.Document:
    """Return conditions beside those of organisation and month."""
    return {"$and": [{dimension: {"$eq": value}} for dimension, value in filters.items()]} if filters else {}


def _row(document: mongo.Document) -> UsageRow:
    return UsageRow(**document["_id"], **{each: document[each] for each in _COUNTS})


def _row_id(key: UsageKey) -> str:
    """Return an id of fixed length: the name of a model is the caller's."""
    return ids.derive("use", json.dumps(key))


def _total_id(key: SpendKey) -> str:
    return "/".join((key.organisation, key.month, key.scope, *((key.scope_id,) if key.scope_id else ())))


def _increment(
    document_id: str, identity: Mapping[str, object], increments: Mapping[str, int], batch: tuple[str, int]
) -> UpdateOne:
    """Return an update that inserts the document if need be and adds to it, unless it has this batch already.

    Values are literals: a model's name may begin with `$`, as the path of a field does.
    """
    writer, number = batch
    applied = {"$ifNull": ["$applied", []]}
    is_applied = {"$and": [{"$eq": ["$$this.writer", writer]}, {"$gte": ["$$this.number", number]}]}
    others = {"$filter": {"input": applied, "cond": {"$ne": ["$$this.writer", writer]}}}
    changed: mongo.Document = {name: {"$literal": value} for name, value in identity.items()}
    changed |= {name: {"$add": [{"$ifNull": [f"${name}", 0]}, value]} for name, value in increments.items()}
    changed["applied"] = {
        "$slice": [{"$concatArrays": [others, [{"writer": writer, "number": number}]]}, -_MAX_WRITERS]
    }
    seen = {"$anyElementTrue": [{"$map": {"input": applied, "in": is_applied}}]}
    replacement = {"$cond": [seen, "$$ROOT", {"$mergeObjects": ["$$ROOT", changed]}]}
    return UpdateOne({"_id": document_id}, [{"$replaceWith": replacement}], upsert=True)
