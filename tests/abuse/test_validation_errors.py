"""However much of a request is wrong, its answer is short and quickly there; and ids, filters and pages have bounds."""

import httpx
import pytest

from tests.abuse.attacks import bodies, validation_errors
from tests.abuse.attacks.target import Target
from tests.calls import ok
from tests.stack import Stack

pytestmark = pytest.mark.usefixtures("victim", "memory")


@pytest.fixture
def target(stack: Stack) -> Target:
    return Target(stack.url, stack.api_key)


def test_the_answer_to_a_wrong_body_is_short_and_names_what_is_wrong(target: Target) -> None:
    for path, wrong in validation_errors.wrong_bodies().items():
        for number, answer in enumerate(bodies.send_all(target, path, wrong)):
            assert answer.status_code in (413, 422, 503), (path, number, answer.text[:500])
            assert len(answer.content) < 12_000, (path, number, answer.text[:500])
            assert answer.json()["detail"]


def test_of_many_errors_the_first_are_told_and_the_rest_counted(target: Target) -> None:
    fields = {f"x{number}": number for number in range(300)}
    chat = {"project": "p", "model_config": {"model": "m"}, "messages": []}
    with target.client() as client:
        answer = client.post("/chat", json=chat | fields)
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert [error["loc"] for error in detail] == [["body", f"x{number}"] for number in range(20)]
    assert "280 more errors are not told" in detail[-1]["msg"]


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("/logs", {"project_id": "pr_1", "page": 10**19}),
        ("/logs", {"project_id": "pr_1", "size": 10**9}),
        ("/logs", {"project_id": "pr_1", "source_filter": ["a"] * 200}),
        ("/logs", {"project_id": "pr_1", "sort": ["source.asc"] * 200}),
        ("/logs", {"project_id": "pr_1", "start_date": "9" * 5000}),
        ("/projects", {"page": 10**30}),
        ("/sessions", {"project_id": "pr_1", "page": 2**63}),
        ("/logs/" + "a" * 9000, {}),
        ("/projects/" + "%00" * 1000, {}),
        ("/" + "n" * 9000, {}),
        ("/projects/" + "%2e%2e%2f" * 500, {}),
    ],
    ids=range(11),
)
def test_long_queries_and_ids_are_client_errors_and_short_answers(
    target: Target, path: str, parameters: dict[str, object]
) -> None:
    with target.client() as client:
        answer = client.get(path, params=parameters)  # type: ignore[arg-type]
    assert answer.status_code in (404, 422), answer.text
    assert len(answer.content) < 10_000


def test_the_last_page_that_is_allowed_is_answered(target: Target) -> None:
    with target.client() as client:
        stored = ok(client.post("/logs", json={"project": "p", "config": {"type": "tool", "name": "t"}}))
        query = {"project_id": stored["project_id"], "page": 1_000_000, "size": 1000}
        assert ok(client.get("/logs", params=query))["records"] == []


def test_a_key_of_any_length_is_a_401(target: Target) -> None:
    for length in (201, 10_000, 30_000):
        assert httpx.get(f"{target.url}/projects", headers={"X-API-KEY": "k" * length}).status_code == 401
