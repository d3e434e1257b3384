"""Contracts: subjects and docstrings of messages, and that messages of earlier versions can be read."""

import inspect
import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from shared.contracts.access.authentication import Authenticate
from shared.contracts.access.keys import CreateKey, ListKeys, NewKey
from shared.contracts.health import GetHealth, Health, health_query
from shared.contracts.logs import INTAKE, Intake
from shared.contracts.message import Command, Envelope, Event, Job, Query, Request, SystemCommand, SystemQuery
from shared.contracts.principal import Actor, Principal
from tests.contract_modules import contract_modules

PRINCIPAL = Principal(organisation="tm_1", role="Admin", key_id="key_1", user_id="usr_1", email="ada@example.org")
GOLDEN = Path(__file__).parent / "golden"
SERVICES = {"gateway", "generation", "logging", "evaluation", "authz"}
_KINDS = (Query, SystemQuery, Command, SystemCommand, Job, Event)


def _classes() -> dict[str, type[BaseModel]]:
    """Every message class that is sent: not the four kinds, and not what others inherit from."""
    found: dict[str, type[BaseModel]] = {}
    for module in contract_modules():
        stem = module.__name__.rpartition(".")[2]
        for name, cls in vars(module).items():
            own = inspect.isclass(cls) and cls.__module__ == module.__name__ and "[" not in name
            if own and stem != "message" and issubclass(cls, _KINDS) and not cls.__dict__.get("__abstract__"):
                found[f"{stem}.{name}"] = cls
    return {name: cls for name, cls in found.items() if cls is GetHealth or _is_sent(cls)}


def _is_sent(cls: type[BaseModel]) -> bool:
    return issubclass(cls, Event) or bool(cls.subject)  # type: ignore[attr-defined]


CLASSES = _classes()
REQUESTS = {name: cls for name, cls in CLASSES.items() if issubclass(cls, Request)}
EVENTS = {name: cls for name, cls in CLASSES.items() if issubclass(cls, Event)}


def golden(name: str) -> dict[str, Any]:
    module, _, cls = name.partition(".")
    samples: dict[str, Any] = json.loads((GOLDEN / f"{module}.json").read_text())
    assert cls in samples, f"put a sample of {cls} into golden/{module}.json, with every field"
    sample: dict[str, Any] = samples[cls]
    return sample


def contains(whole: Any, part: Any) -> bool:
    """Whether every value of `part` is in `whole`, at the same place."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return len(whole) == len(part) and all(contains(one, other) for one, other in zip(whole, part, strict=True))
    return bool(whole == part)


def still_reads(cls: type[BaseModel], sample: Any) -> None:
    read = json.loads(cls.model_validate_json(json.dumps(sample)).model_dump_json())
    assert contains(read, sample), f"{cls.__name__} lost something of {sample}: {read}"


def test_messages_are_found() -> None:
    assert len(REQUESTS) > 10
    assert EVENTS


@pytest.mark.parametrize("name", CLASSES)
def test_every_message_has_a_docstring(name: str) -> None:
    assert len(CLASSES[name].__dict__.get("__doc__") or "") > 10


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "health.GetHealth"])
def test_every_request_is_answered_by_a_service(name: str) -> None:
    owner, _, what = REQUESTS[name].subject.partition(".")
    assert owner in SERVICES
    assert what


@pytest.mark.parametrize("name", EVENTS)
def test_the_subject_of_an_event_has_its_noun_and_past_participle(name: str) -> None:
    event = EVENTS[name].model_validate(golden(name)["message"])
    assert event.subject == f"events.{event.organisation}.{event.noun}.{event.past_participle}"
    assert event.past_participle.endswith("ed")


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_read_as_it_is_published(name: str) -> None:
    """Without the fields that are None; each field that may be None needs it as its default."""
    event = EVENTS[name].model_validate(golden(name)["message"])
    assert EVENTS[name].model_validate_json(event.model_dump_json(exclude_none=True)) == event


def test_subjects_are_unique() -> None:
    subjects = [cls.wildcard_subject() if issubclass(cls, Event) else cls.subject for cls in CLASSES.values()]  # type: ignore[attr-defined]
    assert [subject for subject, count in Counter(subjects).items() if count > 1] == []


@pytest.mark.parametrize("name", CLASSES)
def test_messages_of_earlier_versions_can_be_read(name: str) -> None:
    sample = golden(name)["message"]
    still_reads(CLASSES[name], sample)
    assert set(sample) == set(CLASSES[name].model_fields), "a sample has every field"


@pytest.mark.parametrize("name", REQUESTS)
def test_replies_of_earlier_versions_can_be_read(name: str) -> None:
    still_reads(REQUESTS[name].reply_type(), golden(name)["reply"])


@pytest.mark.parametrize("name", CLASSES)
def test_fields_of_a_newer_sender_are_ignored(name: str) -> None:
    CLASSES[name].model_validate(golden(name)["message"] | {"added_next_year": 1})


@pytest.mark.parametrize(
    "name", ["authentication.AccessChanged", "routing.RoutingChanged", "tools.ToolChanged", "usage.BudgetChanged"]
)
def test_an_event_with_an_open_field_what_is_read_with_an_unknown_value(name: str) -> None:
    CLASSES[name].model_validate(golden(name)["message"] | {"what": "added next year"})


def test_intake_records_of_earlier_versions_can_be_read() -> None:
    sample = json.loads((GOLDEN / "intake.json").read_text())
    read = json.loads(INTAKE.dump_json(INTAKE.validate_json(json.dumps(sample))))
    assert contains(read, sample)
    kinds = get_args(get_args(Intake)[0])
    assert {cls.__name__: set(cls.model_fields) for cls in kinds} == {
        cls.__name__: set(record) for cls, record in zip(kinds, sample, strict=True)
    }, "the samples have every field, in the order of Intake"


FORMER: dict[str, dict[str, Any]] = json.loads((GOLDEN / "former.json").read_text())
"""Messages and replies as they were sent before principals, and before events said who caused them."""


@pytest.mark.parametrize("name", [name for name, sample in FORMER.items() if "by" in sample.get("message", {})])
def test_the_principal_of_earlier_versions_is_read_from_by(name: str) -> None:
    sample = FORMER[name]["message"]
    read = CLASSES[name].model_validate_json(json.dumps(sample))
    assert isinstance(read, Envelope)
    assert read.organisation == sample["organisation"]
    match sample["by"]:
        case None:
            assert read.principal is None
        case str(email):
            assert read.actor == Actor(email=email)
        case by:
            assert contains(read.principal and read.principal.model_dump(), by)
    rest = {key: value for key, value in sample.items() if key != "by"}
    assert contains(json.loads(read.model_dump_json()), rest)


@pytest.mark.parametrize("name", [name for name, sample in FORMER.items() if "by" not in sample.get("message", {})])
def test_messages_of_earlier_versions_without_an_actor_can_be_read(name: str) -> None:
    cls, sample = CLASSES[name], FORMER[name]
    if "message" in sample:
        still_reads(cls, sample["message"])
    else:
        still_reads(cls.reply_type(), sample["reply"])  # type: ignore[attr-defined]


def test_the_organisation_of_a_message_is_the_principals() -> None:
    assert ListKeys(principal=PRINCIPAL).organisation == "tm_1"
    assert ListKeys(organisation="tm_2").principal is None


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"organisation": ""},
        {"principal": PRINCIPAL, "organisation": "tm_2"},
        {"principal": Principal(role="Admin")},
    ],
    ids=["no organisation", "an empty one", "another than the principal's", "a principal of none"],
)
def test_a_message_without_exactly_one_organisation_is_invalid(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"organisation"):
        ListKeys.model_validate(values)


def test_the_actor_of_a_principal_has_no_organisation_and_no_role() -> None:
    assert ListKeys(principal=PRINCIPAL).actor == Actor(user_id="usr_1", email="ada@example.org", key_id="key_1")
    assert Principal.for_service("evaluation", "tm_1").actor == Actor(kind="service", service="evaluation")
    assert ListKeys(organisation="tm_1").actor is None


def test_every_golden_sample_belongs_to_a_message() -> None:
    for path in GOLDEN.glob("*.json"):
        if path.stem not in {"intake", "former"}:
            assert {f"{path.stem}.{name}" for name in json.loads(path.read_text())} <= set(CLASSES)


def test_a_request_has_the_class_of_its_reply() -> None:
    assert CreateKey.reply_type() is NewKey
    assert health_query("logging").reply_type() is Health
    assert health_query("logging").subject == "logging.health"


def test_a_request_without_a_reply_class_raises_type_error() -> None:
    class Nothing(Request):  # type: ignore[type-arg]
        subject = "probe.nothing"

    with pytest.raises(TypeError, match="what answers it"):
        Nothing.reply_type()


def test_messages_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Authenticate(key_hash="x").key_hash = "y"  # type: ignore[misc]


def test_a_secret_does_not_show_where_a_message_is_printed() -> None:
    assert "hl_secret" not in repr(NewKey(id="key_1", name="n", secret="hl_secret", tail="cret", role="Member"))
