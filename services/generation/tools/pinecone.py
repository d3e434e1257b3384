"""Passages near a query: OpenAI embeds it, Pinecone finds its neighbours.

Embeddings: https://platform.openai.com/docs/api-reference/embeddings · index and query: https://docs.pinecone.io/reference
and what Pinecone's own client 10.2.0 sends and reads (2026-11)
"""

from typing import Any

from services.generation.tools.base import Invocation, Kind, ToolServices, json_of, reading
from shared.contracts.tools import Pinecone
from shared.errors import Invalid, UpstreamFailed

_MOST = 100
"""Passages of one call; Pinecone would give up to 10,000."""
_VERSION = {"X-Pinecone-Api-Version": "2026-07"}


def _parameters(_: Pinecone) -> tuple[str, ...]:
    return ("query", "top_k")


async def _run(call: Invocation[Pinecone], services: ToolServices) -> str:
    query, written = call.arguments
    if not written.isascii() or not written.isdecimal() or not 1 <= int(written[:9]) <= _MOST:
        raise Invalid(f"top_k must be a whole number from 1 to {_MOST}, not {written!r}.")
    vector = await _embed(call, query, services)
    host = call.settings.host or await _host(call, services)
    fetched = await services.guarded_client.post_json(
        f"{host if '://' in host else f'https://{host}'}/query",
        {"vector": vector, "topK": int(written), "includeMetadata": True},
        headers=_key(call),
    )
    answer = json_of(fetched, "Pinecone")
    with reading("Pinecone"):
        return "\n\n".join(_passages(answer, call.settings.text_field))


def _key(call: Invocation[Pinecone]) -> dict[str, str]:
    return {"Api-Key": call.secrets["pinecone_key"], **_VERSION}


async def _embed(call: Invocation[Pinecone], query: str, services: ToolServices) -> Any:  # noqa: ANN401 - passed on as it is
    fetched = await services.guarded_client.post_json(
        f"{services.embeddings_url}/embeddings",
        {"model": call.settings.openai_model, "input": query, "encoding_format": "float"},
        headers={"Authorization": f"Bearer {call.secrets['openai_key']}"},
    )
    answer = json_of(fetched, "OpenAI")
    with reading("OpenAI"):
        return answer["data"][0]["embedding"]


async def _host(call: Invocation[Pinecone], services: ToolServices) -> str:
    """Where the index is. Errors: Invalid (in another environment than the tool says)."""
    settings = call.settings
    fetched = await services.guarded_client.get(f"{services.pinecone_url}/indexes/{settings.index}", headers=_key(call))
    index = json_of(fetched, "Pinecone")
    with reading("Pinecone"):
        host, found = index["host"], (index.get("deployment") or {}).get("environment")
    if settings.environment and found and found != settings.environment:
        raise Invalid(f"The index {settings.index!r} is in {found!r}, not in {settings.environment!r}.")
    if not isinstance(host, str):  # null while the index is being made
        raise UpstreamFailed(f"The index {settings.index!r} is not ready.", origin="Pinecone")
    return host


def _passages(answer: dict[str, Any], field: str) -> list[str]:
    """The texts, nearest first. Errors: Invalid (no match has the field)."""
    matches = [match for match in answer.get("matches") or () if isinstance(match, dict)]
    texts = [(match.get("metadata") or {}).get(field) for match in matches]
    passages = [text for text in texts if isinstance(text, str)]
    if matches and not passages:
        raise Invalid(f"No match has a metadata field {field!r} with a text; set text_field.")
    return passages


KIND = Kind(_parameters, _run)
