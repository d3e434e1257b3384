"""One step of the sessions guide, as the guide writes it; prints what the response object says."""

import json
import os
from typing import Any

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")
place = {"session_reference_id": arguments["session_reference_id"]} if "session_reference_id" in arguments else {}


def moderator() -> dict[str, Any]:
    """Chat."""
    response = humanloop.chat(
        project="sessions_example_moderator",
        model_config={
            "model": "gpt-4",
            "max_tokens": 1,
            "temperature": 0,
            "chat_template": [
                {"role": "user", "content": "{{user_request}}"},
                {"role": "system", "content": "You are a moderator of user requests."},
                {"role": "system", "content": "Is the request safe? Answer yes or no."},
            ],
        },
        inputs={"user_request": "Which country won Eurovision 2023?"},
        messages=[],
        **place,
    )
    return described(response)


def search() -> dict[str, Any]:
    """Log of a tool call."""
    response = humanloop.log(
        project="sessions_example_google",
        config={
            "type": "tool",
            "name": "Google Search",
            "description": "Searches the web.",
            "source_code": "def search(question): ...\n",
        },
        inputs={"question": "Which country won Eurovision 2023?"},
        output="Sweden",
        **place,
    )
    return {"id": response.id, "project_id": response.project_id, "session_id": response.session_id}


def assistant() -> dict[str, Any]:
    """Completion."""
    response = humanloop.complete(
        project="sessions_example_assistant",
        model_config={
            "model": "gpt-3.5-turbo-instruct",
            "temperature": 0,
            "prompt_template": "Question: {{question}}\nSearch result: {{google_answer}}\nAnswer:\n",
        },
        inputs={"question": "Which country won?", "google_answer": "Sweden"},
        **place,
    )
    return described(response)


def described(response: Any) -> dict[str, Any]:
    """The attributes an application reads."""
    first = response.data[0]
    return {
        "id": first.id,
        "output": first.output,
        "model_config_id": first.model_config_id_,
        "project_id": response.project_id,
        "session_id": response.session_id,
    }


print(json.dumps({"moderator": moderator, "search": search, "assistant": assistant}[arguments["step"]]()))
