"""What `everloop up` says when everything is ready: where it is, and a first call to try."""

import json
import shlex

from deploy.local.folder import Folder
from deploy.local.stack import Stack


def text(stack: Stack, folder: Folder, how_to_stop: str) -> str:
    """The lines a person reads."""
    return f"""
Everloop is ready: {stack.url}   (base URL for Humanloop v4 clients: {stack.api})

Try it:

{first_call(stack)}

Credentials: {folder.credentials}
Logs:        {folder.logs}
{how_to_stop}"""


def first_call(stack: Stack) -> str:
    """A command that can be pasted as it is."""
    config = {"model": stack.model, "max_tokens": 40}
    if stack.model == "mock":
        config["provider"] = "mock"
    body = {
        "project": "hello",
        "model_config": config,
        "messages": [{"role": "user", "content": "Say hello to the world."}],
    }
    return (
        f"  curl {stack.api}/chat \\\n"
        f"    -H 'X-API-KEY: {stack.api_key}' \\\n"
        f"    -H 'Content-Type: application/json' \\\n"
        f"    -d {shlex.quote(json.dumps(body))}"
    )
