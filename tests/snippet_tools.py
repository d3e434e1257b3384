"""Snippet tools, and calls whose templates use them."""

from typing import Any

import httpx

from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI

PASSAGES = {"helpful": "You are a helpful assistant.", "grumpy": "You are a grumpy one."}


def console_url(api: httpx.Client, path: str) -> str:
    """Return the URL of a path of the console API."""
    return f"{str(api.base_url).rstrip('/').removesuffix('/v4')}/api{path}"


def snippet(passages: dict[str, str]) -> Json:
    return {"kind": "snippet", "pairs": [{"key": key, "value": value} for key, value in passages.items()]}


def create_snippet_tool(api: httpx.Client, passages: dict[str, str] | None = None, *, name: str | None = None) -> Json:
    """Create a snippet tool, by default with a new name; return the response."""
    body = {"name": name or f"assistant_{reference()}", "settings": snippet(passages or PASSAGES)}
    made: Json = ok(api.post(console_url(api, "/tools"), json=body), 201)
    return made


def update_passages(api: httpx.Client, tool: Json, passages: dict[str, str]) -> None:
    """Replace the passages of a snippet tool."""
    pairs = snippet(passages)["pairs"]
    ok(api.patch(console_url(api, f"/tools/{tool['id']}"), json={"settings": {"pairs": pairs}}))


def chat(api: httpx.Client, template: str, **fields: Any) -> httpx.Response:
    """Send a chat whose system message is the template."""
    config = {"model": "gpt-4", "chat_template": [{"role": "system", "content": template}]}
    body: Json = {"project": f"rows-tools-{reference()}", "model_config": config, "messages": []}
    return api.post("/chat", json=body | fields)


def complete(api: httpx.Client, template: str, **fields: Any) -> httpx.Response:
    config = {"model": "gpt-3.5-turbo-instruct", "prompt_template": template}
    return api.post("/completion", json={"project": f"rows-tools-{reference()}", "model_config": config, **fields})


def last_prompt(openai: FakeOpenAI) -> str:
    """Return the system message, or the prompt, that the provider was sent last."""
    body = openai.last.body
    return str(body["messages"][0]["content"] if "messages" in body else body["prompt"])
