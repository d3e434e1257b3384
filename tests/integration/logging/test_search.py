"""What a search of logs finds: values and not names, the latest feedback, also on documents of earlier versions."""

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from pymongo import UpdateOne

from services.logging.decoding import Entry
from services.logging.migrations import MIGRATIONS, m0001_derive_fields_of_logs
from services.logging.session_resolution import LogKey, SessionAssignment
from services.logging.store import LogStore, bulk_writes
from services.logging.store.queries import search_filter
from shared.contracts.logs import FeedbackFilter, FeedbackGiven, LogRecord, SearchLogs, Sort
from shared.errors import Invalid, Unavailable
from shared.migrations import migrate
from shared.mongo import Database
from tests.integration.logging.stack import LoggingStack
from tests.principals import member
from tests.unit.logging.builders import START, feedback, log

ORGANISATION = "tm_1"
DERIVED = ("search_text", "metadata_text", "feedback_keys", "feedback_order", "blobs")


class Logs:
    """The store of logs on a database of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = LogStore(database)
        self._position = 0

    async def add(self, *records: LogRecord | FeedbackGiven) -> None:
        """Store records one after the other."""
        for record in records:
            self._position += 1
            if isinstance(record, LogRecord):
                key = LogKey(record.organisation, record.id)
                await self.store.insert_logs([Entry(self._position, record)], {key: SessionAssignment(None)})
            else:
                await self.store.upsert_feedback([Entry(self._position, record)])

    async def found(self, **terms: Any) -> str:
        """Return the ids of the logs that a search finds, in order, without `data_`."""
        query = SearchLogs(principal=member(ORGANISATION), project_id="pr_1", **terms)
        answer = await self.store.search_logs(ORGANISATION, query)
        assert answer.total == len(answer.logs)
        return " ".join(one.id.removeprefix("data_") for one in answer.logs)

    async def rated(self, feedback_type: str, *values: str) -> str:
        return await self.found(feedback=[FeedbackFilter(type=feedback_type, values=list(values))])


@pytest_asyncio.fixture(loop_scope="session")
async def logs(servers: LoggingStack) -> AsyncIterator[Logs]:
    with servers.database(f"t{secrets.token_hex(4)}") as database:
        logs = Logs(database)
        await logs.store.prepare()
        yield logs


def given(number: int, feedback_type: str, value: Any, log_id: str = "data_1", **fields: Any) -> FeedbackGiven:
    """Return feedback; a list, or `labels`, are those of a multi-select."""
    labels = value if isinstance(value, list) else fields.pop("labels", [])
    return feedback(f"ann_{number}", log_id=log_id, type=feedback_type, value=value, labels=labels, **fields)


CONVERSATION: dict[str, Any] = {
    "inputs": {"topic": "Eurovision", "years": [2022, 2023.5, {"host": 'Liverpool "UK"'}], "live": True, "no": None},
    "messages": [
        {"role": "system", "content": "Answer as a poet."},
        {"role": "user", "content": [{"type": "text", "text": "Who sang\nTattoo?"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/loreen.png"}}]},
    ],
    "output": "Loreen {did}",
    "metadata": {"release": {"name": "Night\\Owl", "number": 17}},
}


@pytest.mark.parametrize(
    "term",
    [
        *("eurovision", "Eurovision", "2022", "2023.5", 'liverpool "uk"', "true"),
        *("as a poet", "sang\ntattoo", "{did}"),
    ],
)
async def test_a_value_is_found_wherever_it_is(logs: Logs, term: str) -> None:
    await logs.add(log(**CONVERSATION))
    assert await logs.found(search=term) == "1"
    assert await logs.found(metadata_search=term) == ""


@pytest.mark.parametrize(
    "term",
    [
        *("topic", "years", "host", "null", "role", "system", "content", "image_url", "text", "type"),
        *('"', ":", "{", "[", "]", ",", '":"', '","', "\\n", '\\"', "Liverpool\x1f", "2022,2023.5", "release"),
        *("\x1f", "2022\x1f2023.5"),
    ],
)
async def test_names_and_punctuation_of_json_are_not_found(logs: Logs, term: str) -> None:
    record = log(**{**CONVERSATION, "inputs": {**CONVERSATION["inputs"], "years": [2022, 2023.5]}, "output": "Loreen"})
    await logs.add(record, log("data_2", inputs={"topic": None, "host": {"years": []}}))
    assert await logs.found(search=term) == ""


async def test_a_value_with_the_separator_of_values_is_found(logs: Logs) -> None:
    await logs.add(log(inputs={"a": "unit\x1fseparator", "b": "other"}))
    assert await logs.found(search="unit\x1fseparator") == "1"
    assert await logs.found(search="separator\x1fother") == ""


@pytest.mark.parametrize("letter", ["k", "\u017f", "x", "."])
async def test_the_longest_search_text_is_searched_and_a_longer_one_refused(logs: Logs, letter: str) -> None:
    """A letter may have three cases, and be two bytes or two characters of a pattern."""
    await logs.add(log(output="kelvin"))
    longest = 0
    for length in range(15_000, 33_000, 500):
        try:
            assert await logs.found(search=letter * length) == ""
        except Invalid:
            break
        longest = length
    assert 15_000 < longest <= 21_000


async def test_metadata_is_searched_by_its_values(logs: Logs) -> None:
    await logs.add(log(**CONVERSATION), log("data_2", metadata={"release": None}))
    assert await logs.found(metadata_search="night\\owl") == "1"
    assert await logs.found(metadata_search="17") == "1"
    assert await logs.found(metadata_search="release") == ""
    assert await logs.found(metadata_search='"') == ""
    assert await logs.found(search="night", metadata_search="night") == ""


async def test_the_latest_feedback_of_a_type_decides(logs: Logs) -> None:
    sent = {"id": "ann_0", "type": "rating", "value": "good", "created_at": START}
    await logs.add(log("data_1", feedback=[sent]), log("data_2", feedback=[sent], seconds=1), log("data_3"))
    assert await logs.rated("rating", "good") == "2 1"
    await logs.add(given(1, "rating", "bad"))
    assert (await logs.rated("rating", "good"), await logs.rated("rating", "bad")) == ("2", "1")
    assert await logs.rated("rating", "bad", "good") == "2 1"
    await logs.add(given(2, "rating", None, unset=True))
    assert await logs.rated("rating", "bad", "good") == "2"
    assert await logs.rated("mood", "good") == await logs.rated("rating", "goo") == await logs.rated("", "good") == ""


async def test_of_labels_those_given_last_count(logs: Logs) -> None:
    await logs.add(log(), given(1, "action", ["copied", "saved"]))
    assert await logs.rated("action", "copied") == await logs.rated("action", "saved") == "1"
    await logs.add(given(2, "action", "sent", labels=["sent"]))
    assert (await logs.rated("action", "sent"), await logs.rated("action", "copied", "saved")) == ("1", "")
    await logs.add(given(3, "action", "sent", labels=["sent"], unset=True))
    assert await logs.rated("action", "copied") == "1"


@pytest.mark.parametrize(
    ("value", "matching", "other"),
    [
        (4, "4", "5"),
        (4.0, "4", "4.5"),
        (4, "4.0", "40"),
        (-1.5, "-1.5", "1.5"),
        (10**400, "1e999", "1"),
        (True, "true", "false"),
        ("4.0", "4.0", "4"),
        (4, "4e0", "٤"),
        ("a,b|c.$", "a,b|c.$", "a"),
        ("x" * 90_000, "x" * 90_000, "x"),
    ],
    ids=str,
)
async def test_values_are_compared_as_what_they_are(logs: Logs, value: Any, matching: str, other: str) -> None:
    await logs.add(log(), given(1, "score", value))
    assert await logs.rated("score", matching) == "1"
    assert await logs.rated("score", other) == ""


@pytest.mark.parametrize("name", ["a.b", "$set", "ü \"'\\\x00", "x_filter", "-", "feedback-", "a" * 200])
async def test_a_type_may_have_any_name(logs: Logs, name: str) -> None:
    await logs.add(log(), given(1, name, "good"), log("data_2", seconds=1), given(2, name, "bad", "data_2"))
    assert await logs.rated(name, "good") == "1"
    assert await logs.found(sort=[Sort(column="feedback", feedback_type=name)]) == "2 1"


async def test_filters_of_several_types_must_all_match(logs: Logs) -> None:
    await logs.add(log(), given(1, "rating", "good"), given(2, "mood", 4))
    await logs.add(log("data_2", seconds=1, source="sdk"), given(3, "rating", "good", "data_2"))
    good = FeedbackFilter(type="rating", values=["good"])
    assert await logs.found(feedback=[good]) == "2 1"
    assert await logs.found(feedback=[good, FeedbackFilter(type="mood", values=["4", "5"])]) == "1"
    assert await logs.found(feedback=[good], sources=["sdk"]) == "2"


async def test_logs_are_sorted_by_feedback_and_those_without_it_are_lowest(logs: Logs) -> None:
    await logs.add(*(log(f"data_{number}", seconds=number) for number in range(1, 6)))
    await logs.add(given(1, "mood", 10, "data_1"), given(2, "mood", 9.5, "data_2"), given(3, "mood", 9.5, "data_3"))
    await logs.add(given(4, "rating", "good", "data_2"), given(5, "rating", "bad", "data_3"))
    by_mood, by_rating = (Sort(column="feedback", feedback_type=name) for name in ("mood", "rating"))
    assert await logs.found(sort=[by_mood]) == "5 4 3 2 1"
    assert await logs.found(sort=[by_mood.model_copy(update={"descending": True})]) == "1 3 2 5 4"
    assert await logs.found(sort=[by_mood.model_copy(update={"descending": True}), by_rating]) == "1 3 2 5 4"
    assert await logs.found(sort=[by_mood, by_rating.model_copy(update={"descending": True})]) == "5 4 2 3 1"
    assert await logs.found(sort=[by_rating, Sort(column="timestamp")]) == "1 4 5 3 2"
    up, down = Sort(column="timestamp"), Sort(column="timestamp", descending=True)
    assert await logs.found(sort=[up, down]) == "1 2 3 4 5", "the second has nothing left to order"


async def test_feedback_that_comes_before_its_log_is_found_with_it(logs: Logs) -> None:
    await logs.add(given(1, "rating", "good"), log())
    assert await logs.rated("rating", "good") == "1"
    document = await logs.database["logs"].find_one({})
    assert document is not None
    await logs.database["logs"].update_one({}, {"$unset": dict.fromkeys(DERIVED, "")})
    await logs.add(log())
    assert await logs.rated("rating", "good") == "1", "what is delivered again is derived again"


async def test_documents_of_an_earlier_version_get_the_derived_fields(logs: Logs) -> None:
    token = f"everloop-blob:{'b' * 64}"
    await logs.add(
        log(**CONVERSATION | {"raw_output": token}),
        given(1, "rating", "good"),
        log("data_2", seconds=1, inputs={"poet": 1}),
        log("data_3", seconds=2),
        given(2, "comment", f"data:image/png;base64,everloop-blob:{'c' * 64}", "data_3"),
        given(3, "rating", "good", "data_4"),
    )
    collection = logs.database["logs"]
    wanted = {document["_id"]: document async for document in collection.find()}
    await collection.update_many({}, {"$unset": dict.fromkeys(DERIVED, "")})
    assert await logs.found(search="poet") == "2", "as long as it has no other text, its JSON is searched"
    await collection.update_one({"_id": f"{ORGANISATION}/data_2"}, {"$set": {"created_at": START.replace(year=2000)}})
    for _ in range(2):
        await migrate(logs.database, MIGRATIONS)
    assert await logs.found(search="poet") == "1"
    migrated = {document["_id"]: document async for document in collection.find()}
    for log_id, document in migrated.items():
        assert {name: document.get(name) for name in DERIVED} == {name: wanted[log_id].get(name) for name in DERIVED}
    assert migrated[f"{ORGANISATION}/data_3"]["blobs"] == ["c" * 64]


async def test_a_migration_holds_few_large_logs_in_memory(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    await logs.add(*(log(f"data_{number}", inputs={"text": "a" * 1_000_000}) for number in range(12)))
    await logs.database["logs"].update_many({}, {"$unset": {"search_text": ""}})
    written: list[int] = []

    async def write(collection: bulk_writes.Collection, updates: Sequence[UpdateOne]) -> dict[int, str]:
        written.append(len(updates))
        return await bulk_writes.update_many(collection, updates)

    monkeypatch.setattr(m0001_derive_fields_of_logs, "update_many", write)
    await migrate(logs.database, MIGRATIONS)
    assert max(written) <= 4
    assert await logs.database["logs"].count_documents({"search_text": {"$exists": True}}) == sum(written) == 12


async def test_a_search_that_takes_too_long_says_so(logs: Logs) -> None:
    await logs.add(*(log(f"data_{number}", output="a" * 30_000) for number in range(200)))
    impatient = LogStore(logs.database, search_seconds=0.001)
    query = SearchLogs(principal=member(ORGANISATION), project_id="pr_1", search="b" * 10_000)
    with pytest.raises(Unavailable, match=r"took longer.*start_date"):
        await impatient.search_logs(ORGANISATION, query)


async def test_what_counting_took_is_not_given_to_reading_again(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway waits little longer than the database may take for both."""
    await logs.add(log())
    clock = iter((0.0, 0.0))
    monkeypatch.setattr("services.logging.store.logs.monotonic", lambda: next(clock, 60.0))
    with pytest.raises(Unavailable, match=r"took longer.*start_date"):
        await logs.found()


def _is_used(plan: Any, index: str) -> bool:
    if isinstance(plan, dict):
        return plan.get("indexName") == index or any(_is_used(value, index) for value in plan.values())
    return isinstance(plan, list) and any(_is_used(value, index) for value in plan)


async def test_a_filter_by_feedback_reads_an_index(logs: Logs) -> None:
    await logs.add(*(log(f"data_{number}") for number in range(50)), given(1, "rating", "good"))
    rated = [FeedbackFilter(type="rating", values=["good", "bad"])]
    condition = search_filter(
        ORGANISATION, SearchLogs(principal=member(ORGANISATION), project_id="pr_1", feedback=rated)
    )
    plan = await logs.database["logs"].find(condition).explain()
    assert _is_used(plan["queryPlanner"]["winningPlan"], "project_by_feedback")
