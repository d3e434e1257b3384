"""GuardedClient and the tools that use it, against a web server on this machine that SsrfGuard is set to allow."""

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest

from services.generation.http.guarded_client import GuardedClient, GuardedSession, OutboundLimits
from services.generation.tools.base import Invocation, ToolServices
from services.generation.tools.registry import KINDS
from shared.contracts.generation.tools import TOOL_SETTINGS
from shared.errors import Invalid, RateLimited, TooLarge, Unauthenticated, Unavailable, UpstreamFailed
from tests.fake_servers.web import FakeWebServer, WebRequest, WebResponse, json_response, redirect, serve
from tests.integration.generation.certificates import certificate
from tests.integration.servers import ROOT

EMBEDDING = {
    "object": "list",
    "model": "text-embedding-ada-002",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1.0]}],
    "usage": {"prompt_tokens": 1, "total_tokens": 1},
}


@pytest.fixture
def web() -> Iterator[FakeWebServer]:
    with serve() as web:
        yield web


MIB = 1024 * 1024


@pytest.fixture
def guarded_client() -> GuardedClient:
    return GuardedClient("127.0.0.1")


@pytest.fixture
def session(guarded_client: GuardedClient) -> Iterator[GuardedSession]:
    with guarded_client.session("tm_1", MIB, "answers") as session:
        yield session


class TestRequests:
    async def test_a_get_returns_status_content_type_and_content(
        self, web: FakeWebServer, session: GuardedSession
    ) -> None:
        web.responses["/a b/ü"] = WebResponse(b"no")
        web.responses["/a%20b/%C3%BC"] = WebResponse(
            "schön".encode(), 203, {"Content-Type": "text/plain; charset=utf-8"}
        )
        fetched = await session.get(f"{web.url}/a b/ü?q=x y&r=%20#part", headers={"X-Key": "s"})
        assert (fetched.status, fetched.content_type, fetched.text) == (203, "text/plain; charset=utf-8", "schön")
        (asked,) = web.requests
        assert asked.query == {"q": "x y", "r": " "}
        assert asked.headers["host"] == f"127.0.0.1:{web.port}"
        assert asked.headers["x-key"] == "s"
        assert asked.headers["accept-encoding"] == "identity"

    async def test_json_is_posted(self, web: FakeWebServer, session: GuardedSession) -> None:
        web.responses["/in"] = json_response({"ok": True}, 201)
        fetched = await session.post_json(f"{web.url}/in", {"a": [1, None]}, headers={"Authorization": "Bearer k"})
        assert (fetched.status, fetched.text) == (201, '{"ok": true}')
        assert web.requests[0].body == {"a": [1, None]}
        assert web.requests[0].headers["authorization"] == "Bearer k"

    @pytest.mark.parametrize(
        "target",
        [
            *("http://localhost:{port}/x", "http://[::1]:{port}/x", "http://127.1:{port}/x", "http://10.0.0.1/x"),
            *("http://169.254.169.254/latest/meta-data/", "//169.254.169.254/", "http://[::ffff:127.0.0.1]:{port}/x"),
            *("file:///etc/passwd", "http://[broken/", "http://u:p@127.0.0.1:{port}/x"),
        ],
    )
    async def test_a_redirect_to_an_internal_address_is_refused(
        self, web: FakeWebServer, session: GuardedSession, target: str
    ) -> None:
        web.responses["/start"] = redirect(target.format(port=web.port))
        web.responses["/x"] = WebResponse(b"secret of the inside")
        with pytest.raises(Invalid):
            await session.get(f"{web.url}/start")
        assert [request.path for request in web.requests] == ["/start"]

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_three_redirects_are_followed(self, web: FakeWebServer, session: GuardedSession, status: int) -> None:
        web.responses |= {"/1": redirect("2", status), "/2": redirect("/3", status), "/3": redirect("/4?q=1", status)}
        web.responses["/4"] = WebResponse(b"there")
        assert (await session.get(f"{web.url}/1", headers={"X-Key": "s"})).text == "there"
        assert [request.headers.get("x-key") for request in web.requests] == ["s"] * 4

    async def test_a_fourth_redirect_is_not_followed(self, web: FakeWebServer, session: GuardedSession) -> None:
        web.responses["/loop"] = redirect("/loop")
        with pytest.raises(UpstreamFailed, match="more than 3"):
            await session.get(f"{web.url}/loop")
        assert len(web.requests) == 4

    async def test_headers_stay_with_the_first_host(self, web: FakeWebServer, session: GuardedSession) -> None:
        with serve() as other:
            web.responses["/start"] = redirect(f"{other.url}/back")
            other.responses["/back"] = redirect(f"{web.url}/end")
            web.responses["/end"] = WebResponse(b"there")
            assert (await session.get(f"{web.url}/start", headers={"X-Key": "s"})).text == "there"
            (elsewhere,) = other.requests
        assert [request.headers.get("x-key") for request in web.requests] == ["s", None]
        assert "x-key" not in elsewhere.headers

    async def test_a_redirect_of_a_post_is_returned_and_not_followed(
        self, web: FakeWebServer, session: GuardedSession
    ) -> None:
        web.responses["/in"] = redirect("/elsewhere", 307)
        assert (await session.post_json(f"{web.url}/in", {})).status == 307
        assert len(web.requests) == 1

    async def test_a_response_over_the_limit_of_bytes_is_refused(
        self, web: FakeWebServer, session: GuardedSession
    ) -> None:
        web.responses |= {"/fits": WebResponse(b"x" * 1000), "/large": WebResponse(b"x" * 1001)}
        assert len((await session.get(f"{web.url}/fits", max_bytes=1000)).content) == 1000
        with pytest.raises(UpstreamFailed, match="more than 1000 bytes"):
            await session.get(f"{web.url}/large", max_bytes=1000)

    async def test_all_responses_of_a_session_together_are_bounded_as_they_arrive(
        self, web: FakeWebServer, guarded_client: GuardedClient
    ) -> None:
        web.responses |= {"/long": WebResponse(b"x" * 700), "/short": WebResponse(b"x" * 300)}
        with guarded_client.session("tm_1", 1000, "answers") as session:
            for path, length in (("long", 700), ("short", 300)):
                assert len((await session.get(f"{web.url}/{path}")).content) == length
            with pytest.raises(TooLarge, match="The answers have more than 1,000 bytes together"):
                await session.get(f"{web.url}/short")

    async def test_responses_in_memory_are_bounded_for_an_organisation_and_for_all(self, web: FakeWebServer) -> None:
        client = GuardedClient("127.0.0.1", OutboundLimits(response_bytes=2000))
        web.responses["/"] = WebResponse(b"x" * 900)

        async def fetch(session: GuardedSession) -> int:
            return len((await session.get(f"{web.url}/")).content)

        with client.session("tm_1", MIB, "answers") as first, client.session("tm_2", MIB, "answers") as second:
            assert await fetch(first) == 900
            refused = pytest.raises(Unavailable, match="EVERLOOP_OUTBOUND_BYTES")
            with client.session("tm_1", MIB, "answers") as more, refused:
                await fetch(more)
            assert await fetch(second) == 900, "the half of another organisation"
            with client.session("tm_3", MIB, "answers") as third, refused:
                await fetch(third)
        for organisation in ("tm_1", "tm_2", "tm_3"):
            with client.session(organisation, MIB, "answers") as session:
                assert await fetch(session) == 900, "what ended takes no room"

    @pytest.mark.parametrize(
        "slow", [{"delay_seconds": 1.0}, {"piece_delay_seconds": 0.02}], ids=["silent", "dripping"]
    )
    async def test_a_response_after_the_timeout_is_an_error(
        self, web: FakeWebServer, session: GuardedSession, slow: dict[str, float]
    ) -> None:
        web.responses["/slow"] = WebResponse(b"x" * 100, **slow)  # type: ignore[arg-type]
        with pytest.raises(UpstreamFailed, match=r"within 0\.3 seconds"):
            await session.get(f"{web.url}/slow", total_seconds=0.3)

    async def test_a_compressed_answer_is_refused(self, web: FakeWebServer, session: GuardedSession) -> None:
        web.responses["/gzip"] = WebResponse(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
        with pytest.raises(UpstreamFailed, match="compressed"):
            await session.get(f"{web.url}/gzip")

    async def test_a_server_that_cannot_be_reached_is_an_upstream_failure(self, session: GuardedSession) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            with pytest.raises(UpstreamFailed, match="cannot be reached"):
                await session.get(f"http://127.0.0.1:{taken.getsockname()[1]}/")

    async def test_a_response_that_is_no_http_is_an_upstream_failure(self, session: GuardedSession) -> None:
        async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n")
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            with pytest.raises(UpstreamFailed, match="as an HTTP server"):
                await session.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")

    @pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "\x00"])
    async def test_a_header_cannot_begin_another(self, web: FakeWebServer, session: GuardedSession, value: str) -> None:
        with pytest.raises(UpstreamFailed):
            await session.get(f"{web.url}/", headers={"X-Key": value})
        assert web.requests == []


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello " + (self.headers["Host"] or "").partition(":")[0].encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[int, ssl.SSLContext]]:
    """The port of a server with a certificate for `good.example`, and a context that trusts it."""
    path = certificate(tmp_path, "good.example")
    server = HTTPServer(("127.0.0.1", 0), _Hello)
    serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serves.load_cert_chain(path)
    server.socket = serves.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server.server_port, ssl.create_default_context(cafile=str(path))
    server.shutdown()
    server.server_close()


async def test_tls_verifies_the_name_although_the_connection_goes_to_an_address(
    secure: tuple[int, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        assert host.rstrip(".").endswith(".example"), "an address is not looked up again"
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    port, trusting = secure
    with GuardedClient("127.0.0.0/8", tls=trusting).session("tm_1", MIB, "answers") as session:
        assert (await session.get(f"https://good.example:{port}/")).text == "hello good.example"
        assert (await session.get(f"https://good.example.:{port}/")).text == "hello good.example."
        with pytest.raises(UpstreamFailed, match="cannot be reached"):
            await session.get(f"https://bad.example:{port}/")
    with (
        GuardedClient("127.0.0.0/8").session("tm_1", MIB, "answers") as suspicious,
        pytest.raises(UpstreamFailed, match="cannot be reached"),
    ):
        await suspicious.get(f"https://good.example:{port}/")


_HANGING = """
import asyncio, socket, time
from services.generation.http import name_lookup
from services.generation.http.guarded_client import GuardedClient

async def main():
    with GuardedClient().session("tm_1", 1000, "answers") as session:
        try:
            await session.get("http://slow.example/")
        except Exception as error:
            print(error)

name_lookup.LOOKUP_SECONDS = 0.1
socket.getaddrinfo = lambda *_, **__: time.sleep(60)
asyncio.run(main())
"""


def test_a_service_stops_although_a_look_up_hangs() -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", _HANGING],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert "name server did not answer" in ended.stdout
    assert ended.stderr == ""


class TestTools:
    """Kinds that call out; the services they call are fake servers with the answers of the vendors' pages."""

    @pytest.fixture
    def services(self, web: FakeWebServer, guarded_client: GuardedClient) -> ToolServices:
        return ToolServices(guarded_client, web.url, web.url, f"{web.url}/v1")

    @staticmethod
    async def run(services: ToolServices, settings: dict[str, Any], *arguments: str, **secrets: str) -> str:
        kind = KINDS[settings["kind"]]
        assert kind.run
        given = TOOL_SETTINGS.validate_python(settings)
        with services.guarded_client.session("tm_1", MIB, "results") as session:
            return await kind.run(Invocation(session, given, arguments, secrets), services)

    async def test_arguments_become_query_parameters_in_their_order(
        self, web: FakeWebServer, services: ToolServices
    ) -> None:
        web.responses["/v1/rain"] = WebResponse(b'{"wet": true}')
        tool = {"kind": "get_api", "url": f"{web.url}/v1/rain?unit=mm", "query_parameters": ["city", "a&b"]}
        text = await self.run(services, tool | {"key_header": "X-Weather"}, "Århus & Oslo", "{{x}}=1", key="k-1")
        assert text == '{"wet": true}'
        assert web.requests[0].query == {"unit": "mm", "city": "Århus & Oslo", "a&b": "{{x}}=1"}
        assert web.requests[0].headers["x-weather"] == "k-1"

    async def test_without_a_key_no_header_is_sent(self, web: FakeWebServer, services: ToolServices) -> None:
        web.responses["/"] = WebResponse(b"ok")
        assert await self.run(services, {"kind": "get_api", "url": web.url}) == "ok"
        assert "x-api-key" not in web.requests[0].headers

    @pytest.mark.parametrize(
        ("status", "problem"), [(401, Unauthenticated), (404, Invalid), (429, RateLimited), (500, UpstreamFailed)]
    )
    async def test_an_error_status_of_a_service_is_the_problem_without_its_content(
        self, web: FakeWebServer, services: ToolServices, status: int, problem: type[Exception]
    ) -> None:
        web.responses["/"] = WebResponse(b"k-secret is wrong", status)
        with pytest.raises(problem, match=str(status)) as caught:
            await self.run(services, {"kind": "get_api", "url": web.url}, key="k-secret")
        assert "k-secret" not in str(caught.value)

    async def test_google_answers(self, web: FakeWebServer, services: ToolServices) -> None:
        web.responses["/search"] = json_response({"answer_box": {"type": "organic_result", "answer": "Sweden"}})
        text = await self.run(services, {"kind": "google"}, "who won & why?", serpapi_key="s-1")
        assert text == "Sweden"
        assert web.requests[0].query == {"engine": "google", "q": "who won & why?", "api_key": "s-1"}

    async def test_an_unexpected_response_is_an_upstream_failure(
        self, web: FakeWebServer, services: ToolServices
    ) -> None:
        web.responses["/search"] = json_response({"organic_results": {"a": 1}, "answer_box": "x"})
        assert await self.run(services, {"kind": "google"}, "q", serpapi_key="s") == "No good search result found."
        web.responses["/search"] = json_response({"organic_results": 3})
        with pytest.raises(UpstreamFailed) as caught:
            await self.run(services, {"kind": "google"}, "q", serpapi_key="s")
        assert caught.value.origin == "SerpAPI"

    async def test_a_redirect_to_another_origin_is_returned_if_it_must_not_be_followed(
        self, web: FakeWebServer, services: ToolServices
    ) -> None:
        with serve() as other:
            web.responses["/search"] = redirect(f"{other.url}/search?api_key=s")
            with pytest.raises(Invalid, match="302"):
                await self.run(services, {"kind": "google"}, "rain", serpapi_key="s")
            assert other.requests == []
        web.responses |= {"/search": redirect("/there"), "/there": json_response({"answer_box": {"answer": "wet"}})}
        assert await self.run(services, {"kind": "google"}, "rain", serpapi_key="s") == "wet"

    @staticmethod
    def pinecone(web: FakeWebServer, **index: Any) -> None:
        described = {"name": "docs", "host": web.url, "deployment": {"deployment_type": "pod", "environment": "gcp-1"}}
        matches = [
            {"id": "1", "score": 0.9, "metadata": {"text": "near"}},
            {"id": "2", "score": 0.5, "metadata": {"text": "far"}},
        ]
        web.responses |= {
            "/v1/embeddings": json_response(EMBEDDING),
            "/indexes/docs": json_response(described | index),
            "/query": json_response({"matches": matches, "namespace": "", "usage": {"readUnits": 1}}),
        }

    @pytest.mark.parametrize("host", [True, False], ids=["host", "by name"])
    async def test_pinecone_finds_passages(self, web: FakeWebServer, services: ToolServices, *, host: bool) -> None:
        self.pinecone(web)
        tool = {"kind": "pinecone", "index": "docs", "environment": "gcp-1", "openai_model": "ada"}
        text = await self.run(
            services, tool | ({"host": web.url} if host else {}), "how?", "2", pinecone_key="p-1", openai_key="o-1"
        )
        assert text == "near\n\nfar"
        embedded, *looked_up, queried = web.requests
        assert embedded.body == {"model": "ada", "input": "how?", "encoding_format": "float"}
        assert embedded.headers["authorization"] == "Bearer o-1"
        assert queried.body == {"vector": [0.25, -1.0], "topK": 2, "includeMetadata": True}
        assert queried.headers["api-key"] == "p-1"
        assert [asked.path for asked in looked_up] == ([] if host else ["/indexes/docs"])

    @pytest.mark.parametrize(
        ("index", "problem", "said"),
        [
            ({"deployment": {"environment": "gcp-2"}}, Invalid, "gcp-2"),
            ({"host": None}, UpstreamFailed, "not ready"),
            ({"deployment": "pod"}, UpstreamFailed, "expected"),
        ],
    )
    async def test_an_index_that_cannot_be_used_is_an_error(
        self, web: FakeWebServer, services: ToolServices, index: dict[str, Any], problem: type[Exception], said: str
    ) -> None:
        self.pinecone(web, **index)
        tool = {"kind": "pinecone", "index": "docs", "environment": "gcp-1"}
        with pytest.raises(problem, match=said):
            await self.run(services, tool, "how?", "2", pinecone_key="p", openai_key="o")

    async def test_the_fake_embeddings_answer_as_openais_client_expects(self, web: FakeWebServer) -> None:
        seen: list[WebRequest] = []

        def embed(asked: WebRequest) -> WebResponse:
            seen.append(asked)
            return json_response(EMBEDDING)

        web.responses["/v1/embeddings"] = embed
        async with openai.AsyncOpenAI(api_key="o-1", base_url=f"{web.url}/v1") as client:
            made = await client.embeddings.create(model="ada", input="how?", encoding_format="float")
        assert made.data[0].embedding == [0.25, -1.0]
        assert seen[0].body == {"model": "ada", "input": "how?", "encoding_format": "float"}
        assert seen[0].headers["authorization"] == "Bearer o-1"
