"""Calls to hosts that hang, drip, answer without end or go away: by tools, and by images named by address."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx

from tests.abuse.attacks.target import Target
from tests.calls import Json, ok, reference
from tests.fake_servers.misbehaving import MisbehavingServer, unconnectable
from tests.images import messages_with_images

_BEHAVIOURS = ("silent", "drips-body", "endless-body", "endless-chunks", "redirects-to-silence", "resets-in-body")
CALLS = 320
"""More than there are places, for the organisation and for all."""
_GIVE_UP_SECONDS = 2.0
"""After which every second call of the attacker is cut off."""


def create_tool(target: Target, url: str) -> str:
    """Create a tool that calls the URL; return its name."""
    name = f"tool_{reference()}"
    body = {"name": name, "settings": {"kind": "get_api", "url": url}}
    with target.client() as client:
        ok(client.post(f"{target.url.removesuffix('/v4')}/api/tools", json=body), 201)
    return name


def tool_chat(name: str) -> Json:
    """Return the body of a chat that calls a tool."""
    config = {
        "provider": "mock",
        "model": "mock",
        "chat_template": [{"role": "system", "content": f"{{{{ {name}( ) }}}}"}],
    }
    return {"project": "outbound", "model_config": config, "messages": [{"role": "user", "content": "hi"}]}


def image_chat(url: str) -> Json:
    """Return the body of a chat with an image that its provider takes as data only."""
    config = {"provider": "google", "model": "gemini-2.5-flash"}
    return {"project": "outbound-images", "model_config": config, "messages": messages_with_images(url)}


@contextlib.asynccontextmanager
async def hanging_hosts() -> AsyncIterator[dict[str, int]]:
    """Yield the URLs of hosts that hang in every way, with their ports."""
    async with MisbehavingServer(None).running() as server:
        with unconnectable() as port:
            urls = {f"http://127.0.0.1:{port}/": port}
            yield urls | {server.url(name): server.port for name in _BEHAVIOURS}


async def call_all(target: Target, urls: list[str]) -> None:
    """Call the URLs by tools and images at once; half of the calls are cut off in the middle."""
    tools = [await asyncio.to_thread(create_tool, target, url) for url in urls]
    limits = httpx.Limits(max_connections=CALLS, max_keepalive_connections=0)
    async with httpx.AsyncClient(
        base_url=target.url, headers={"X-API-KEY": target.api_key}, limits=limits, timeout=60
    ) as client:

        async def call(number: int) -> None:
            bodies = (tool_chat(tools[number % len(tools)]), image_chat(urls[number % len(urls)]))
            with contextlib.suppress(TimeoutError, httpx.HTTPError):
                async with asyncio.timeout(_GIVE_UP_SECONDS if number % 2 else None):
                    answer = await client.post("/chat", json=bodies[number % 3 == 0])
                    assert answer.status_code in {413, 422, 429, 502, 503}, answer.text

        await asyncio.gather(*(call(number) for number in range(CALLS)))


def call_hosts_that_hang(target: Target) -> None:
    """Let tools and images of all kinds hang."""

    async def attack() -> None:
        async with hanging_hosts() as urls:
            await call_all(target, list(urls))

    asyncio.run(attack())
