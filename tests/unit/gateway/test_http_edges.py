"""What every answer of the gateway has, and what it says about methods, slashes and keys."""

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.datastructures import Headers

from services.gateway.authentication.api_keys import get_api_key
from services.gateway.main import create_app
from services.gateway.responses.headers import ResponseHeadersMiddleware
from services.gateway.settings import Settings
from shared.errors import Unauthenticated

KEY, OTHER = f"hl_{'a' * 48}", f"hl_{'b' * 48}"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = ResponseHeadersMiddleware(create_app(Settings(secret="x" * 44)))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://public.example") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v4/logs", "DELETE, GET, HEAD, OPTIONS, PATCH, POST"),
        ("DELETE", "/v4/feedback", "OPTIONS, POST"),
        ("TRACE", "/api/redirects", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("POST", "/api/tools/oc_1", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("POST", "/healthz", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_wrong_method_is_told_every_method_of_the_path(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    refused = await client.request(method, path)
    assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
    assert allowed in refused.json()["detail"]["message"]
    options = await client.options(path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, allowed, b"")


async def test_head_is_get_without_the_content(client: httpx.AsyncClient) -> None:
    head, get = await client.head("/openapi.json"), await client.get("/openapi.json")
    assert (head.status_code, head.content, head.headers) == (200, b"", get.headers)
    assert (await client.head("/v4/feedback")).status_code == 405


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/v4/projects/?page=2&name=a%20b", "/v4/projects?page=2&name=a%20b"),
        ("/v4/projects//", "/v4/projects"),
        ("/v4/logs/a%0D%0Ab%3F/", "/v4/logs/a%0D%0Ab%3F"),
        ("//evil.example/", None),
        ("/%2f%2fevil.example/v4/projects/", None),
        ("/v4/nothing/", None),
        ("/", None),
    ],
)
async def test_a_redirect_names_no_host(client: httpx.AsyncClient, path: str, location: str | None) -> None:
    answer = await client.get(
        httpx.URL("http://public.example", raw_path=path.encode()), headers={"Host": "evil.example"}
    )
    assert answer.status_code == (404 if location is None else 307)
    assert answer.headers.get("location") == location


@pytest.mark.parametrize("path", ["/v4/nothing", "/openapi.json", "/v4/projects/", "/v4/projects", "/healthz"])
async def test_every_answer_says_what_browsers_and_caches_may_not_do(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([], None),
        ([("authorization", f"Bearer {KEY}")], None),
        ([("X-Api-Key", KEY)], KEY),
        ([("x-api-key", KEY), ("X-API-KEY", KEY)], KEY),
        ([("x-api-key", KEY), ("authorization", f"Bearer {KEY}")], KEY),
        ([("x-api-key", KEY), ("authorization", "Basic cHJveHk6c2VjcmV0")], KEY),
        ([("x-api-key", "chosen by the operator"), ("x-request-id", "hl_1")], "chosen by the operator"),
    ],
)
def test_a_request_has_the_key_of_its_header(headers: list[tuple[str, str]], key: str | None) -> None:
    assert get_api_key(_headers(headers)) == key


@pytest.mark.parametrize(
    "headers",
    [
        [("x-api-key", KEY), ("X-API-KEY", OTHER)],
        [("x-api-key", KEY), ("x-api-key", "")],
        [("x-api-key", KEY), ("authorization", f"Bearer {OTHER}")],
        [("authorization", OTHER), ("x-api-key", KEY)],
        [("x-api-key", KEY), ("x_api_key", OTHER)],
        [("x-api-key", KEY), ("cookie", f"a=b; key={OTHER}")],
    ],
)
def test_two_different_keys_are_refused(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Unauthenticated, match="send one") as refused:
        get_api_key(_headers(headers))
    assert KEY not in refused.value.message
    assert OTHER not in refused.value.message


def _headers(headers: list[tuple[str, str]]) -> Headers:
    return Headers(raw=[(name.lower().encode(), value.encode()) for name, value in headers])


@pytest.mark.parametrize(("public_url", "is_sent"), [("https://a.example", True), ("http://a.example", False)])
async def test_tls_is_required_of_browsers_only_where_it_is_served(public_url: str, is_sent: bool) -> None:
    app = ResponseHeadersMiddleware(create_app(Settings(secret="x" * 44)), public_url)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a.example") as browser:
        answer = await browser.get("/healthz")
    assert ("strict-transport-security" in answer.headers) is is_sent
