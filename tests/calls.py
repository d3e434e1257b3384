"""Requests that many tests send, and the checks of their responses."""

import uuid
from typing import Any

import httpx

Json = dict[str, Any]


def reference() -> str:
    """Return a new unique string, for reference ids and names."""
    return str(uuid.uuid4())


def ok(response: httpx.Response, status: int = 200) -> Any:
    """Return the JSON of a response. Raises AssertionError if its status is another."""
    assert response.status_code == status, response.text
    return response.json()


def moderator(api: httpx.Client, **fields: Any) -> Json:
    """Send the chat of the sessions guide's first step; `fields` replace those of the body."""
    body: Json = {
        "project": "sessions_example_moderator",
        "model_config": {
            "model": "gpt-4",
            "max_tokens": 1,
            "temperature": 0,
            "chat_template": [
                {"role": "user", "content": "{{user_request}}"},
                {"role": "system", "content": "You are a moderator of user requests."},
                {"role": "system", "content": "Is the request safe? Answer yes or no."},
            ],
        },
        "inputs": {"user_request": "Which country won Eurovision 2023?"},
        "messages": [],
    }
    result: Json = ok(api.post("/chat", json=body | fields))
    return result


def search_log(api: httpx.Client, *, source_code: str = "def search(q): ...", **fields: Any) -> Json:
    """Send the tool log of the sessions guide's second step; `fields` replace those of the body."""
    body: Json = {
        "project": "sessions_example_google",
        "config": {"type": "tool", "name": "Google Search", "source_code": source_code, "description": "Searches."},
        "inputs": {"question": "Which country won Eurovision 2023?"},
        "output": "Sweden",
    }
    result: Json = ok(api.post("/logs", json=body | fields))
    return result


def assistant(api: httpx.Client, **fields: Any) -> Json:
    """Send the completion of the sessions guide's third step; `fields` replace those of the body."""
    body: Json = {
        "project": "sessions_example_assistant",
        "model_config": {
            "model": "gpt-3.5-turbo-instruct",
            "temperature": 0,
            "prompt_template": "Question: {{question}}\nSearch result: {{google_answer}}\nAnswer:\n",
        },
        "inputs": {"question": "Which country won?", "google_answer": "Sweden"},
    }
    result: Json = ok(api.post("/completion", json=body | fields))
    return result


def list_sessions(api: httpx.Client, project_id: str) -> dict[str, Json]:
    """Return the newest hundred sessions of a project, by id."""
    page = ok(api.get("/sessions", params={"project_id": project_id, "size": 100}))
    return {record["id"]: record for record in page["records"]}


def session_tree(api: httpx.Client, session_id: str) -> list[Json]:
    """Return the roots of a session's tree of logs, from the console API."""
    url = str(api.base_url).rstrip("/").removesuffix("/v4")
    roots: list[Json] = ok(api.get(f"{url}/api/sessions/{session_id}/tree"))["roots"]
    return roots
