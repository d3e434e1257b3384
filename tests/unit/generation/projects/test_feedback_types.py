"""Types of feedback: what every project has, and what definitions add."""

import pytest

from services.generation.projects.feedback_types import merge_definitions
from shared.contracts.generation.projects import STANDARD_FEEDBACK, FeedbackLabel, FeedbackType
from shared.errors import Invalid


def label(value: str, sentiment: str | None = None) -> FeedbackLabel:
    """A label."""
    return FeedbackLabel.model_validate({"value": value, "sentiment": sentiment})


def one(types: list[FeedbackType], name: str) -> FeedbackType:
    """The type of this name."""
    (found,) = [it for it in types if it.type == name]
    return found


def test_without_definitions_the_standard_types_stay() -> None:
    assert merge_definitions(STANDARD_FEEDBACK, []) == list(STANDARD_FEEDBACK)
    assert [it.type for it in STANDARD_FEEDBACK] == ["rating", "action", "issue", "correction", "comment"]


def test_labels_are_added_to_those_that_are_there() -> None:
    types = merge_definitions(STANDARD_FEEDBACK, [FeedbackType(type="rating", labels=[label("so-so", "neutral")])])
    assert one(types, "rating").labels == [
        label("good", "positive"),
        label("bad", "negative"),
        label("so-so", "neutral"),
    ]


def test_a_label_keeps_its_sentiment_unless_another_is_given() -> None:
    types = merge_definitions(
        STANDARD_FEEDBACK, [FeedbackType(type="rating", labels=[label("good"), label("bad", "unset")])]
    )
    assert one(types, "rating").labels == [label("good", "positive"), label("bad", "unset")]


def test_a_new_label_without_a_sentiment_is_unset() -> None:
    types = merge_definitions(STANDARD_FEEDBACK, [FeedbackType(type="action", labels=[label("copied")])])
    assert one(types, "action").labels == [label("copied", "unset")]


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        (FeedbackType(type="mood"), "text"),
        (FeedbackType(type="mood", labels=[label("sunny")]), "select"),
        (FeedbackType(type="mood", kind="number"), "number"),
    ],
)
def test_a_new_type_comes_last_with_the_class_that_fits(definition: FeedbackType, kind: str) -> None:
    types = merge_definitions(STANDARD_FEEDBACK, [definition])
    assert (types[-1].type, types[-1].kind) == ("mood", kind)
    assert merge_definitions(types, [definition]) == types


def test_the_class_of_a_type_cannot_be_changed() -> None:
    with pytest.raises(Invalid, match="class"):
        merge_definitions(STANDARD_FEEDBACK, [FeedbackType(type="rating", kind="multi_select")])


@pytest.mark.parametrize("kind", ["text", "number"])
def test_a_text_or_number_type_has_no_labels(kind: str) -> None:
    definition = FeedbackType.model_validate({"type": "mood", "kind": kind, "labels": [{"value": "x"}]})
    with pytest.raises(Invalid, match="values"):
        merge_definitions(STANDARD_FEEDBACK, [definition])


def test_types_and_labels_are_bounded() -> None:
    types = merge_definitions(STANDARD_FEEDBACK, [FeedbackType(type=f"type {number}") for number in range(95)])
    with pytest.raises(Invalid, match="type: a project has at most 100"):
        merge_definitions(types, [FeedbackType(type="one more")])
    with pytest.raises(Invalid, match="values: a feedback type has at most 1000"):
        merge_definitions(
            STANDARD_FEEDBACK, [FeedbackType(type="issue", labels=[label(f"{number}") for number in range(1001)])]
        )


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_names_of_types_and_labels_have_at_most_255_characters(name: str) -> None:
    with pytest.raises(Invalid, match=r"type: .*255"):
        merge_definitions(STANDARD_FEEDBACK, [FeedbackType(type=name)])
    with pytest.raises(Invalid, match=r"values: .*255"):
        merge_definitions(STANDARD_FEEDBACK, [FeedbackType(type="issue", labels=[label("x" * 256)])])
    assert one(merge_definitions(STANDARD_FEEDBACK, [FeedbackType(type="x" * 255)]), "x" * 255).kind == "text"


def test_all_types_together_fit_into_a_message() -> None:
    labels = [label(f"{number:04}" + "x" * 251) for number in range(1000)]
    types = merge_definitions(STANDARD_FEEDBACK, [FeedbackType(type="issue", labels=labels)])
    with pytest.raises(Invalid, match=r"values: .*bytes"):
        merge_definitions(types, [FeedbackType(type="action", labels=labels)])


def test_a_project_over_the_bounds_can_still_be_changed() -> None:
    many = [FeedbackType(type=f"type {number}", kind="select") for number in range(150)]
    assert len(merge_definitions(many, [FeedbackType(type="type 7", labels=[label("good")])])) == 150
