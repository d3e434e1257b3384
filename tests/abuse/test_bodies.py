"""Bodies that take more than they seem to, and bodies that do not come."""

import gzip
import json
import threading
import time

import httpx
import pytest

from tests.abuse.attacks import bodies
from tests.abuse.attacks.target import Target
from tests.abuse.victim import Victim
from tests.calls import ok
from tests.stack import Stack

pytestmark = pytest.mark.usefixtures("victim", "memory")

LOG = {"project": "bodies", "config": {"type": "tool", "name": "t"}}


@pytest.fixture
def target(stack: Stack) -> Target:
    return Target(stack.url, stack.api_key)


def large_log() -> bytes:
    """A log with an image of 30 MB."""
    image = "data:image/png;base64," + "iVBORw0K" * 3_750_000
    return json.dumps(LOG | {"inputs": {"image": image}}).encode()


def test_dense_json_is_refused_before_it_is_parsed(target: Target) -> None:
    answers = bodies.send_empty_arrays(target)
    assert {answer.status_code for answer in answers} <= {413, 422, 503}
    (alone,) = bodies.send_all(target, "/logs", [b"[" + b"[]," * 16_000_000 + b"[]]"])
    assert alone.status_code == 413
    assert {answer.status_code for answer in bodies.send_objects(target)} <= {200, 413, 503}
    ok(httpx.post(f"{target.url}/logs", content=large_log(), headers=headers(target), timeout=60))


def headers(target: Target) -> dict[str, str]:
    """Of a JSON request with the key."""
    return {"X-API-KEY": target.api_key, "Content-Type": "application/json"}


def test_commas_and_brackets_inside_of_strings_are_text(target: Target) -> None:
    table = "\n".join(f'{number},{number},"[{{}}]",{{{{x}}}}' for number in range(120_000))
    with target.client() as client:
        stored = ok(client.post("/logs", json=LOG | {"output": table}))
        assert ok(client.get(f"/logs/{stored['id']}"))["output"] == table


def test_idle_uploads_are_ended_and_take_no_room_from_others(target: Target, victim: Victim) -> None:
    uploads = threading.Thread(target=lambda: answers.extend(bodies.leave_uploads_idle(target)))
    answers: list[bytes] = []
    uploads.start()
    time.sleep(1)
    for key in (victim.api_key, target.api_key):
        response = httpx.post(
            f"{target.url}/logs", content=large_log(), headers=headers(target) | {"X-API-KEY": key}, timeout=60
        )
        assert response.status_code == 200
    uploads.join()
    assert {answer[:13] for answer in answers} <= {b"HTTP/1.1 408 ", b""}
    assert any(answers)


def test_large_uploads_of_one_organisation_leave_room_for_another(target: Target, victim: Victim) -> None:
    content = large_log()
    ours: list[int] = []

    def upload() -> None:
        ours.append(httpx.post(f"{target.url}/logs", content=content, headers=headers(target), timeout=60).status_code)

    uploads = [threading.Thread(target=upload) for _ in range(6)]
    for upload_thread in uploads:
        upload_thread.start()
    mine = headers(target) | {"X-API-KEY": victim.api_key}
    assert httpx.post(f"{target.url}/logs", content=content, headers=mine, timeout=60).status_code == 200
    for upload_thread in uploads:
        upload_thread.join()
    assert set(ours) <= {200, 503}
    assert 200 in ours


def test_uploads_that_are_cut_off_leave_nothing_behind(target: Target) -> None:
    bodies.cut_uploads_off(target)


def test_arrays_of_many_logs_let_others_have_their_turn(target: Target) -> None:
    answers = bodies.send_arrays_of_logs(target)
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert answers[0].status_code == 200
    assert len(answers[0].json()) == 5000


def test_a_slow_honest_upload_is_taken(target: Target) -> None:
    assert bodies.upload_slowly(target, large_log(), seconds=8).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_compressed_body_is_refused(target: Target, encoding: str) -> None:
    bomb = gzip.compress(b" " * 20_000_000)
    with target.client() as client:
        refused = client.post("/logs", content=bomb, headers={"Content-Encoding": encoding})
    assert (refused.status_code, refused.json()["detail"]["type"]) == (415, "unsupported_media_type_error")


def test_long_numbers_and_deep_nesting_are_refused(target: Target) -> None:
    start, end = json.dumps(LOG)[:-1].encode() + b', "inputs": {"x": ', b"}}"
    wrong = [b"9" * 3_000_000, b"[" * 1_000_000 + b"]" * 1_000_000, b'{"a":' * 500_000 + b"1" + b"}" * 500_000]
    answers = bodies.send_all(target, "/logs", [start + text + end for text in wrong])
    assert {answer.status_code for answer in answers} <= {413, 422, 503}
    assert {bodies.send_all(target, "/logs", [start + text + end])[0].status_code for text in wrong} <= {413, 422}
    assert all(len(answer.content) < 10_000 for answer in answers)
