"""Values at which parsers, templates, dates and databases are known to break, placed anywhere in a body or a query."""

from typing import Any

from tests.fuzz.coin import Coin

HAZARDS: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    -0.0,
    1.5,
    1e308,
    5e-324,
    2**31,
    2**53 + 1,
    2**63,  # MongoDB's integers end before it
    -(2**63) - 1,
    10**400,
    "",
    " ",
    "\x00",
    "\u2028",
    "\U0010ffff" * 50,
    "a" * 5000,
    "null",
    "NaN",
    "1e400",
    "../..",
    "%00%0a",
    "$where",
    "a.b",
    "__proto__",
    "{{x}}",
    "{{ f(",
    "{{ a-b(c, 'd') }}",
    "---\nmodel: [\n---\n",
    "data:image/png;base64,AAAA",
    "data:image/png;base64,*",
    "http://[",
    "0001-01-01T00:00:00+14:00",  # before the first year of UTC
    "9999-12-31T23:59:59-14:00",
    "2024-02-30",
    "2024-05-20T10:00:00.123456789Z",
    [],
    [[]],
    [None],
    {},
    {"$gt": ""},
    {"a.b": {"$set": 1}},
    {"": ""},
    {"\x00": 1},
    {"_id": 1},
    {"type": "object", "properties": {"a": {"$ref": "#"}}},
)
_DESCENTS_IN_8 = 7


def place_hazard(value: Any, coin: Coin) -> Any:
    """Return `value` with a hazard instead of one of the values in it, at any depth."""
    if isinstance(value, dict) and value and coin.pick(8) < _DESCENTS_IN_8:
        name = list(value)[coin.pick(len(value))]
        return value | {name: place_hazard(value[name], coin)}
    if isinstance(value, list) and value and coin.pick(8) < _DESCENTS_IN_8:
        at = coin.pick(len(value))
        return [*value[:at], place_hazard(value[at], coin), *value[at + 1 :]]
    return HAZARDS[coin.pick(len(HAZARDS))]


def place_text_hazard(query: dict[str, Any], coin: Coin) -> dict[str, Any]:
    """Return a query with a text of `HAZARDS` in one of its parameters."""
    texts = [hazard for hazard in HAZARDS if isinstance(hazard, str)]
    return query | {list(query)[coin.pick(len(query))]: texts[coin.pick(len(texts))]}
