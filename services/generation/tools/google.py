"""`google`: a Google search by SerpAPI, https://serpapi.com/search-api (2023-11; its own client 1.2.0 sends the same).

The result is the answer box's text, else the knowledge graph's description, else the first snippet of a result.
"""

from typing import Any
from urllib.parse import urlencode

from services.generation.tools.base import Invocation, ToolKind, ToolServices, parse_errors, parse_json_object
from shared.contracts.generation.tools import Google

_SERVICE = "SerpAPI"
_ANSWER_FIELDS = ("answer", "result", "snippet", "price", "temperature", "definition")
"""Fields of an answer box, the first that is there counts: https://serpapi.com/direct-answer-box-api (2023-11)."""
NO_RESULT = "No good search result found."


def _parameters(_: Google) -> tuple[str, ...]:
    return ("query",)


async def _run(call: Invocation[Google], services: ToolServices) -> str:
    (query,) = call.arguments
    parameters = {"engine": "google", "q": query, "api_key": call.secrets["serpapi_key"]}
    response = await call.session.get(
        f"{services.serpapi_url}/search?{urlencode(parameters, errors='replace')}",
        follow_to_other_origins=False,
    )
    search = parse_json_object(response, _SERVICE)
    with parse_errors(_SERVICE):
        return extract_answer(search)


def extract_answer(search: dict[str, Any]) -> str:
    """Return the best text of SerpAPI's response; `NO_RESULT` if it has none."""
    box = search.get("answer_box")
    candidates = [
        *_texts(box[0] if isinstance(box, list) and box else box, *_ANSWER_FIELDS),
        *_texts(search.get("knowledge_graph"), "description"),
        *(text for result in search.get("organic_results") or () for text in _texts(result, "snippet")),
    ]
    return next(iter(candidates), NO_RESULT)


def _texts(source: Any, *fields: str) -> list[str]:  # noqa: ANN401 - any JSON
    if not isinstance(source, dict):
        return []
    return [str(source[field]) for field in fields if isinstance(source.get(field), str | int | float)]


KIND = ToolKind(_parameters, _run)
