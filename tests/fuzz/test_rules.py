"""The rules notice what they are for, and nothing else."""

import json

import pytest

from tests.fuzz.rules import Answer, broken_rules

LOGS, KEYS = "GET /v4/logs", "POST /api/keys"
DENIED = "Your role Member may not create, see and revoke API keys; ask an Admin for the role Developer."


def error(message: str, origin: str = "Humanloop") -> str:
    return json.dumps({"detail": {"type": "x", "message": message, "code": 0, "origin": origin}})


def answer(operation: str, status: int, text: str = "{}", seconds: float = 0.1) -> Answer:
    """The answer to a Member."""
    return Answer("Member", operation, operation.partition(" ")[0], status, text, seconds)


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (answer(LOGS, 500, error("Something went wrong")), "is a 500"),
        (answer(LOGS, 503, error("There are too many")), "is a 503"),
        (answer(LOGS, 502, "no JSON"), "is a 502"),
        (answer(LOGS, 422, error("Traceback (most recent call last)")), "tells internals"),
        (answer(LOGS, 404, error("E11000 duplicate key")), "tells internals"),
        (answer(LOGS, 200, seconds=21), "took 21 s"),
        (answer(KEYS, 201), "lacks the permission"),
        (answer(KEYS, 422, '{"detail": [{"type": "missing"}]}'), "lacks the permission"),
        (answer(KEYS, 404, error("There is no key 'key_1'.")), "lacks the permission"),
        (answer(LOGS, 403, error("Your role Member may not view logs and feedback.")), "names nothing"),
    ],
)
def test_a_broken_rule_is_told(broken: Answer, rule: str) -> None:
    (told,) = broken_rules(broken)
    assert rule in told


@pytest.mark.parametrize(
    "kept",
    [
        answer(LOGS, 200, '{"output": "Traceback (most recent call last)"}'),
        answer(LOGS, 502, error("The provider failed", "OpenAI")),
        answer("POST /api/auth/sign-up", 503, error("No mail can be sent from here. Ask an Admin for an invite.")),
        answer("POST /api/auth/login", 403, error("The request comes from another origin.")),
        answer("PATCH /api/me", 403, error("Only in a browser session.")),
        answer(KEYS, 403, error(DENIED)),
        answer(KEYS, 401, error("No API key")),
        answer(KEYS, 422, '{"detail": [{"type": "json_invalid"}]}'),
        answer("PATCH /v4/projects/{id}", 403, error("Your role Member may not change what is deployed; ask.")),
        answer(KEYS, 405)._replace(method="TRACE"),
    ],
)
def test_what_is_right_breaks_no_rule(kept: Answer) -> None:
    assert list(broken_rules(kept)) == []
