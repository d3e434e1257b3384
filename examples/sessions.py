"""Log a session of several steps through the unmodified Humanloop Python SDK.

An assistant answers a question in three steps: a model moderates the request, a search finds an answer, a model
writes it down. Each step belongs to a project of its own; the session ties them together. Then the same once more with
the three steps nested under one log that is posted before its output is known.

    make up                                             # in another terminal
    .venv-sdk735/bin/python examples/sessions.py        # any environment with humanloop==0.7.35 does

Settings come from the environment, else from `.everloop/credentials.json`: EVERLOOP_URL, EVERLOOP_API_KEY, and
EVERLOOP_EXAMPLE_MODEL (the small local model by default; any model your stack has a key for works).
"""

import inspect
import json
import os
import uuid
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from fake_search_server import search, start_server
from humanloop import Humanloop
from humanloop.pydantic.completion_response import CompletionResponse

CREDENTIALS = Path(os.environ.get("EVERLOOP_CREDENTIALS", ".everloop/credentials.json"))
SAVED = json.loads(CREDENTIALS.read_text()) if CREDENTIALS.exists() else {}
URL = os.environ.get("EVERLOOP_URL", SAVED.get("url", "http://127.0.0.1:8000/v4"))
API_KEY = os.environ.get("EVERLOOP_API_KEY", SAVED.get("api_key", ""))
MODEL = os.environ.get("EVERLOOP_EXAMPLE_MODEL", "smollm2-135m-instruct")

humanloop = Humanloop(api_key=API_KEY, host=URL)
search_url = start_server()


def moderate(user_request: str, **session: str) -> str:
    """Step 1: ask a model whether the request is safe. A chat with its config in the call, limited to one token."""
    response = humanloop.chat(
        project="sessions_example_moderator",
        model_config={
            "model": MODEL,
            "max_tokens": 1,
            "temperature": 0,
            "chat_template": [
                {"role": "user", "content": "{{user_request}}"},
                {"role": "system", "content": "You are a moderator of user requests."},
                {"role": "system", "content": "Is the request safe to answer? Answer with yes or no."},
            ],
        },
        inputs={"user_request": user_request},
        messages=[],
        **session,
    )
    return str(response.data[0].output)


def search_web(question: str, **session: str) -> str:
    """Step 2: call a tool of the application's own and log the call."""
    answer: str = search(search_url, question)
    humanloop.log(
        project="sessions_example_google",
        config={
            "type": "tool",
            "name": "Google Search",
            "description": "Searches the web for an answer to the question.",
            "source_code": inspect.getsource(search),
        },
        inputs={"question": question},
        output=answer,
        **session,
    )
    return answer


def write_answer(question: str, search_answer: str, **session: str) -> CompletionResponse:
    """Step 3: let a model write the answer from the search result. A completion with its config in the call."""
    return humanloop.complete(
        project="sessions_example_assistant",
        model_config={
            "model": MODEL,
            "max_tokens": 48,
            "temperature": 0,
            "prompt_template": "Question: {{question}}\nSearch result: {{search_answer}}\nAnswer:\n",
        },
        inputs={"question": question, "search_answer": search_answer},
        **session,
    )


def run_flat(user_request: str) -> CompletionResponse:
    """Log the three steps in one session, side by side."""
    session = {"session_reference_id": str(uuid.uuid4())}
    verdict = moderate(user_request, **session)
    search_answer = search_web(user_request, **session)
    response = write_answer(user_request, search_answer, **session)
    print(f"moderator: {verdict}\nsearch:    {search_answer}\nassistant: {response.data[0].output}\n")
    return response


def run_nested(user_request: str) -> CompletionResponse:
    """Log the three steps under a parent log, which is posted first and gets its output last."""
    session_reference, parent_reference = str(uuid.uuid4()), str(uuid.uuid4())
    humanloop.log(
        project="sessions_example_entrypoint",
        config={"type": "tool", "name": "Answer a question", "source_code": inspect.getsource(run_nested)},
        inputs={"user_request": user_request},
        session_reference_id=session_reference,
        reference_id=parent_reference,
    )
    session = {"session_reference_id": session_reference, "parent_reference_id": parent_reference}
    moderate(user_request, **session)
    response = write_answer(user_request, search_web(user_request, **session), **session)
    humanloop.logs.update_by_ref(reference_id=parent_reference, output=response.data[0].output)
    return response


def print_session(response: CompletionResponse) -> dict[str, Any]:
    """Print the session of a response and its tree; return what was printed."""
    project_sessions = humanloop.sessions.list(project_id=response.project_id).records
    session = next(session for session in project_sessions if session.id == response.session_id)
    names = {item.id: item.name for item in session.projects}
    print(f"session {session.id}: {session.datapoints_count} logs in {len(names)} projects")
    print(f"  first inputs: {session.first_inputs}\n  last output:  {session.last_output!r}")
    request = Request(f"{URL.removesuffix('/v4')}/api/sessions/{session.id}/tree", headers={"X-API-KEY": API_KEY})  # noqa: S310
    with urlopen(request, timeout=10) as answer:  # noqa: S310
        tree = json.load(answer)

    def print_nodes(nodes: list[dict[str, Any]], depth: int) -> None:
        for node in nodes:
            print(f"  {'   ' * depth}└─ {names[node['project_id']]}  {node['id']}")
            print_nodes(node["children"], depth + 1)

    print_nodes(tree["roots"], 0)
    print()
    return {
        "id": session.id,
        "count": session.datapoints_count,
        "projects": sorted(names.values()),
        "last_output": session.last_output,
        "tree": tree,
    }


if __name__ == "__main__":
    question = "Which country won Eurovision 2023?"
    sessions = [print_session(run_flat(question)), print_session(run_nested(question))]
    if report := os.environ.get("EVERLOOP_EXAMPLE_REPORT"):
        Path(report).write_text(json.dumps(sessions))
