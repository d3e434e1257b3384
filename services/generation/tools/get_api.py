"""`get_api` (behaviour.md §14.1): a GET request; the arguments are query parameters, the response's text the result."""

from urllib.parse import urlencode, urlsplit

from services.generation.tools.base import Invocation, ToolKind, ToolServices, check_status
from shared.contracts.generation.tools import GetApi


def _parameters(settings: GetApi) -> tuple[str, ...]:
    return tuple(settings.query_parameters)


async def _run(call: Invocation[GetApi], _: ToolServices) -> str:
    settings, key = call.settings, call.secrets.get("key")
    url = urlsplit(settings.url)
    query = urlencode(list(zip(settings.query_parameters, call.arguments, strict=True)), errors="replace")
    url = url._replace(query="&".join(part for part in (url.query, query) if part), fragment="")
    headers = {settings.key_header: key} if key else {}
    response = await call.session.get(url.geturl(), headers=headers)
    return check_status(response, url.hostname or "").text


KIND = ToolKind(_parameters, _run)
