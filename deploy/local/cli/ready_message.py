"""What `everloop up` prints when the stack is ready."""

import json
import shlex

from deploy.local.folder import Folder
from deploy.local.stack import Stack


def ready_message(stack: Stack, folder: Folder, how_to_stop: str) -> str:
    """Return the URL, a first request to try, and where credentials and logs are."""
    return f"""
Everloop is ready: {stack.url}   (base URL for Humanloop v4 clients: {stack.api})

Try it:

{example_request(stack)}

Credentials: {folder.credentials}
Logs:        {folder.logs}
{how_to_stop}"""


def example_request(stack: Stack) -> str:
    """Return a curl command that works as it is, on the local model or, without it, on the mock provider."""
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
