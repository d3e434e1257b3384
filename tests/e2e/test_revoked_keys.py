"""A call ends when its key is revoked, streamed or not, and leaves a log."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.calls import Json, ok, reference
from tests.stack import Stack


def new_name() -> str:
    """Return the name of a new project."""
    return f"revoked-{reference()}"


def new_key(api: httpx.Client, stack: Stack) -> Json:
    """Make an API key and return it."""
    made: Json = ok(api.post(f"{stack.base_url}/api/keys", json={"name": reference()}), 201)
    return made


def revoke(api: httpx.Client, stack: Stack, key: Json) -> float:
    """Revoke an API key and return when that was answered."""
    assert api.delete(f"{stack.base_url}/api/keys/{key['id']}").status_code == 204
    return time.monotonic()


def slow_chat(project: str, **fields: object) -> Json:
    """The body of a chat that takes a minute."""
    other = {"output": "one two three " * 100, "chunk_delay_seconds": 0.2, "delay_seconds": 0 if fields else 60}
    config = {"provider": "mock", "model": "mock", "other": other}
    return {"project": project, "model_config": config, "messages": [{"role": "user", "content": "x"}], **fields}


def log_of(api: httpx.Client, project: str) -> Json:
    """Return the only log of a project, once it is there."""
    deadline = time.monotonic() + 15
    while True:
        projects = ok(api.get("/projects", params={"search": project}))["records"]
        (found,) = [record for record in projects if record["name"] == project]
        records = ok(api.get("/logs", params={"project_id": found["id"]}))["records"]
        if records:
            (log,) = records
            result: Json = log
            return result
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_stream_breaks_off_when_its_key_is_revoked(api: httpx.Client, stack: Stack) -> None:
    project, key, broken, revoked_at = new_name(), new_key(api, stack), False, 0.0
    headers = {"X-API-KEY": key["api_key"]}
    with (
        httpx.Client(base_url=stack.url, headers=headers, timeout=30) as client,
        client.stream("POST", "/chat", json=slow_chat(project, stream=True)) as response,
    ):
        assert response.status_code == 200
        try:
            for number, _ in enumerate(response.iter_raw()):
                if number == 3:
                    revoked_at = revoke(api, stack, key)
        except httpx.RemoteProtocolError:
            broken = True
    assert broken, "it does not end as if it were whole"
    assert time.monotonic() - revoked_at < 10
    log = log_of(api, project)
    assert log["output"].startswith("one two")
    assert log["error"]
    assert log["tokens"]


def test_a_call_that_is_not_streamed_is_refused_when_its_key_is_revoked(api: httpx.Client, stack: Stack) -> None:
    project, key = new_name(), new_key(api, stack)
    headers = {"X-API-KEY": key["api_key"]}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{stack.url}/chat", json=slow_chat(project), headers=headers, timeout=50)
        time.sleep(2)
        revoke(api, stack, key)
        response = answer.result(20)
    assert response.status_code == 401
    assert "revoked" in response.json()["detail"]["message"]
    assert log_of(api, project)["error"]
