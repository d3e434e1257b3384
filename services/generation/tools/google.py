"""Google by SerpAPI: https://serpapi.com/search-api (2023-11; its own client 1.2.0 asks the same).

An answer box is the answer; else what the knowledge graph says; else the first result that has a snippet.
"""

from typing import Any
from urllib.parse import urlencode

from services.generation.tools.base import Invocation, Kind, ToolServices, json_of, reading
from shared.contracts.tools import Google

_SERVICE = "SerpAPI"
_ANSWERS = ("answer", "result", "snippet", "price", "temperature", "definition")
"""What an answer box may say it in: https://serpapi.com/direct-answer-box-api (2023-11)."""
NOTHING = "No good search result found."


def _parameters(_: Google) -> tuple[str, ...]:
    return ("query",)


async def _run(call: Invocation[Google], services: ToolServices) -> str:
    (query,) = call.arguments
    asked = urlencode({"engine": "google", "q": query, "api_key": call.secrets["serpapi_key"]}, errors="replace")
    found = json_of(await services.guarded_client.get(f"{services.serpapi_url}/search?{asked}", leave=False), _SERVICE)
    with reading(_SERVICE):
        return answer(found)


def answer(found: dict[str, Any]) -> str:
    """The text of a search."""
    box = found.get("answer_box")
    candidates = [
        *_said(box[0] if isinstance(box, list) and box else box, *_ANSWERS),
        *_said(found.get("knowledge_graph"), "description"),
        *(text for result in found.get("organic_results") or () for text in _said(result, "snippet")),
    ]
    return next(iter(candidates), NOTHING)


def _said(source: Any, *fields: str) -> list[str]:  # noqa: ANN401 - any JSON
    if not isinstance(source, dict):
        return []
    return [str(source[field]) for field in fields if isinstance(source.get(field), str | int | float)]


KIND = Kind(_parameters, _run)
