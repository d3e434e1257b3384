"""`pinecone`: returns the passages nearest to a query; OpenAI embeds the query, Pinecone finds the matches.

Embeddings: https://platform.openai.com/docs/api-reference/embeddings · index and query: https://docs.pinecone.io/reference
and what Pinecone's own client 10.2.0 sends and reads (2026-11)
"""

from typing import Any

from services.generation.tools.base import Invocation, ToolKind, ToolServices, parse_errors, parse_json_object
from shared.contracts.generation.tools import Pinecone
from shared.errors import Invalid, UpstreamFailed

_MAX_TOP_K = 100
"""Passages of one call; Pinecone's own limit is 10,000."""
_VERSION_HEADER = {"X-Pinecone-Api-Version": "2026-07"}


def _parameters(_: Pinecone) -> tuple[str, ...]:
    return ("query", "top_k")


async def _run(call: Invocation[Pinecone], services: ToolServices) -> str:
    query, top_k = call.arguments
    count = _parse_top_k(top_k)
    vector = await _embed(call, query, services)
    host = call.settings.host or await _get_host(call, services)
    response = await call.session.post_json(
        f"{host if '://' in host else f'https://{host}'}/query",
        {"vector": vector, "topK": count, "includeMetadata": True},
        headers=_headers(call),
    )
    result = parse_json_object(response, "Pinecone")
    with parse_errors("Pinecone"):
        return "\n\n".join(_passages(result, call.settings.text_field))


def _parse_top_k(text: str) -> int:
    """Return the number that a text is. Raises Invalid unless it is a whole one from 1 to `_MAX_TOP_K`."""
    digits = text.lstrip("0")  # int() refuses 4,300 digits and more, zeros included
    is_number = text.isascii() and text.isdecimal() and 0 < len(digits) <= len(str(_MAX_TOP_K))
    if not is_number or int(digits) > _MAX_TOP_K:
        shown = text if len(text) <= 20 else f"{text[:20]}…"
        raise Invalid(f"top_k must be a whole number from 1 to {_MAX_TOP_K}, not {shown!r}.")
    return int(digits)


def _headers(call: Invocation[Pinecone]) -> dict[str, str]:
    return {"Api-Key": call.secrets["pinecone_key"], **_VERSION_HEADER}


async def _embed(call: Invocation[Pinecone], query: str, services: ToolServices) -> Any:  # noqa: ANN401 - passed on as it is
    """Return the query's vector, as OpenAI sends it. Raises as `parse_json_object`."""
    response = await call.session.post_json(
        f"{services.embeddings_url}/embeddings",
        {"model": call.settings.openai_model, "input": query, "encoding_format": "float"},
        headers={"Authorization": f"Bearer {call.secrets['openai_key']}"},
    )
    result = parse_json_object(response, "OpenAI")
    with parse_errors("OpenAI"):
        return result["data"][0]["embedding"]


async def _get_host(call: Invocation[Pinecone], services: ToolServices) -> str:
    """Return the index's host. Raises Invalid if the index is in another environment, UpstreamFailed if not ready."""
    settings = call.settings
    url = f"{services.pinecone_url}/indexes/{settings.index}"
    index = parse_json_object(await call.session.get(url, headers=_headers(call)), "Pinecone")
    with parse_errors("Pinecone"):
        host, environment = index["host"], (index.get("deployment") or {}).get("environment")
    if settings.environment and environment and environment != settings.environment:
        raise Invalid(f"The index {settings.index!r} is in {environment!r}, not in {settings.environment!r}.")
    if not isinstance(host, str):  # null while the index is being created
        raise UpstreamFailed(f"The index {settings.index!r} is not ready.", origin="Pinecone")
    return host


def _passages(result: dict[str, Any], field: str) -> list[str]:
    """Return the texts in a metadata field of the matches, nearest first. Raises Invalid if no match has the field."""
    matches = [match for match in result.get("matches") or () if isinstance(match, dict)]
    texts = [(match.get("metadata") or {}).get(field) for match in matches]
    passages = [text for text in texts if isinstance(text, str)]
    if matches and not passages:
        raise Invalid(f"No match has a metadata field {field!r} with a text; set text_field.")
    return passages


KIND = ToolKind(_parameters, _run)
