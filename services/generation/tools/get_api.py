"""A GET request (behaviour.md §14.1): the arguments are query parameters, the answer's text is the result."""

from urllib.parse import urlencode, urlsplit

from services.generation.tools.base import Invocation, Kind, ToolServices, answered
from shared.contracts.tools import GetApi


def _parameters(settings: GetApi) -> tuple[str, ...]:
    return tuple(settings.query_parameters)


async def _run(call: Invocation[GetApi], services: ToolServices) -> str:
    settings, key = call.settings, call.secrets.get("key")
    url = urlsplit(settings.url)
    asked = urlencode(list(zip(settings.query_parameters, call.arguments, strict=True)), errors="replace")
    url = url._replace(query="&".join(part for part in (url.query, asked) if part), fragment="")
    headers = {settings.key_header: key} if key else {}
    return answered(await services.guarded_client.get(url.geturl(), headers=headers), url.hostname or "").text


KIND = Kind(_parameters, _run)
