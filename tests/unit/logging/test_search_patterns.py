"""Search patterns: search terms are found as literal text, whatever characters they have."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from services.logging.store.search_patterns import json_literal_pattern, literal_pattern
from shared.errors import Invalid

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(TEXT, TEXT)
def test_a_term_is_found_literally(term: str, around: str) -> None:
    assert re.search(literal_pattern(term), around + term + around)
    assert re.search(json_literal_pattern(term), to_json({"q": around + term + around}).decode())
    assert "\x00" not in literal_pattern(term), "a BSON pattern ends at NUL"


def test_special_characters_mean_themselves() -> None:
    assert not re.search(literal_pattern("a.c"), "abc")
    assert re.search(json_literal_pattern('say "hi"\n'), json.dumps({"q": 'say "hi"\n'}))


def test_a_term_longer_than_the_database_takes_is_refused() -> None:
    with pytest.raises(Invalid):
        json_literal_pattern('"' * 16_000)
