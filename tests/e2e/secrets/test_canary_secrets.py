"""A secret in every field that can carry one is nowhere to be found afterwards, in no form."""

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import stack as stacks
from tests.e2e.secrets import places
from tests.e2e.secrets.canaries import Canaries
from tests.e2e.secrets.traffic import Traffic
from tests.fake_servers import mail, openai, otlp, web
from tests.fake_servers.otlp import Collector
from tests.fake_servers.web import WebRequest, WebResponse, json_response
from tests.people import browsers
from tests.stack_environment import stack_settings, start_provider_servers

ALLOWED = {
    # What the operator reads there: where the API is, and how to sign in for the first time.
    "file credentials.json": {"first API key", "first password"},
    # authz alone sends mail, signs people in and sets up.
    "environment of authz": {"password of the mail server", "EVERLOOP_OIDC_CLIENT_SECRET", "EVERLOOP_SETUP_TOKEN"},
    # Only these two encrypt and decrypt.
    "environment of gateway": {"EVERLOOP_SECRET"},
    "environment of generation": {
        *("EVERLOOP_SECRET", "GROQ_API_KEY", "password in MISTRAL_BASE_URL"),
        "password in EVERLOOP_COMPATIBLE_PROVIDERS",
    },
}
"""Secrets by the one place where each belongs."""


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture(scope="module")
def collector() -> Collector:
    return otlp.start()


@pytest.fixture(scope="module")
def traffic(canaries: Canaries, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    """A stack of its own whose settings hold secrets too, after all requests."""
    upstream, folder = openai.start(), tmp_path_factory.mktemp("canary")
    with web.serve() as site, mail.serve("robot@example.org", canaries.new("password of the mail server")) as mails:
        environment = stack_settings(upstream, start_provider_servers()) | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "EVERLOOP_SECRET": canaries.learn("EVERLOOP_SECRET", base64.urlsafe_b64encode(os.urandom(32)).decode()),
            "EVERLOOP_SETUP_TOKEN": canaries.new("EVERLOOP_SETUP_TOKEN"),
            "EVERLOOP_PUBLIC_URL": "http://127.0.0.1:1",
            "EVERLOOP_SMTP_URL": mails.url,
            "EVERLOOP_SMTP_FROM": "Everloop <robot@example.org>",
            "EVERLOOP_OIDC_ISSUER": site.url,
            "EVERLOOP_OIDC_CLIENT_ID": "everloop",
            "EVERLOOP_OIDC_CLIENT_SECRET": canaries.new("EVERLOOP_OIDC_CLIENT_SECRET"),
            "GROQ_API_KEY": canaries.new("GROQ_API_KEY"),
            "MISTRAL_BASE_URL": _with_password(upstream.url, canaries.new("password in MISTRAL_BASE_URL")),
            "EVERLOOP_COMPATIBLE_PROVIDERS": json.dumps(
                {
                    "house": {
                        "base_url": _with_password(
                            "http://127.0.0.1:1/v1", canaries.new("password in EVERLOOP_COMPATIBLE_PROVIDERS")
                        )
                    }
                }
            ),
        }
        site.responses["/.well-known/openid-configuration"] = json_response(
            {
                "issuer": site.url,
                "authorization_endpoint": f"{site.url}/authorize",
                "token_endpoint": f"{site.url}/token",
                "jwks_uri": f"{site.url}/keys",
            }
        )
        site.responses["/token"] = _repeat
        stack = stacks.start(folder, "--no-model", environment=environment)
        try:
            first = json.loads((folder / "credentials.json").read_text())
            canaries.learn("first API key", first["api_key"])
            canaries.learn("first password", first["password"])
            sent = Traffic(stack, canaries)
            with browsers(stack) as opened:
                sent.api_keys()
                sent.provider_keys(upstream)
                sent.misplaced_provider_keys()
                sent.stored_secrets(site)
                sent.passwords(opened, mails, os.environ)
                sent.single_sign_on(opened, site)
                time.sleep(1)  # what is written and traced later
                sent.lists()
            yield sent
            sent.api.close()
        finally:
            stack.stop()


def _with_password(url: str, password: str) -> str:
    return url.replace("://", f"://user:{password}@")


def _repeat(request: WebRequest) -> WebResponse:
    text = json.dumps({"error": "invalid_client", "error_description": repr(request)})
    return WebResponse(text.encode(), 401, {"Content-Type": "application/json"})


def leaks(canaries: Canaries, found: Iterator[tuple[str, bytes]]) -> dict[str, set[str]]:
    """Return the secrets by where they are and do not belong."""
    all_found = {place: canaries.found_in(content) - ALLOWED.get(place, set()) for place, content in found}
    assert all_found
    return {place: names for place, names in all_found.items() if names}


def test_the_requests_were_refused_in_every_way(traffic: Traffic) -> None:
    assert {200, 201, 202, 204, 401, 403, 404, 409, 413, 422, 429} <= traffic.statuses
    assert len(traffic.canaries.values) > 100


def test_no_file_holds_a_secret(traffic: Traffic, canaries: Canaries) -> None:
    assert leaks(canaries, places.files(traffic.stack)) == {}


def test_no_document_holds_a_secret(traffic: Traffic, canaries: Canaries) -> None:
    assert leaks(canaries, places.documents(traffic.stack)) == {}


def test_no_message_of_a_stream_holds_a_secret(traffic: Traffic, canaries: Canaries) -> None:
    assert leaks(canaries, iter(places.messages(traffic.stack))) == {}


def test_no_process_knows_a_secret_that_it_does_not_need(traffic: Traffic, canaries: Canaries) -> None:
    assert leaks(canaries, places.processes(traffic.stack)) == {}


@pytest.mark.usefixtures("traffic")
def test_no_trace_holds_a_secret(canaries: Canaries, collector: Collector) -> None:
    assert leaks(canaries, ((f"trace {number}", raw) for number, raw in enumerate(collector.raw))) == {}


def test_an_answer_tells_no_secret_but_the_one_it_is_for(traffic: Traffic, canaries: Canaries) -> None:
    told = {name: canaries.found_in(content) - {tells} for name, content, tells in traffic.answers}
    assert {name: found for name, found in told.items() if found} == {}


@pytest.mark.parametrize("file", ["credentials.json", "secrets.json", "mongo.key"])
def test_files_with_secrets_are_for_their_owner(traffic: Traffic, file: str) -> None:
    assert Path(traffic.stack.folder, file).stat().st_mode & 0o777 == 0o600


def test_every_form_of_a_secret_is_found() -> None:
    canaries = Canaries()
    canaries.new("another")
    value = canaries.new("wrong API key")
    for before in range(4):
        text = b"x" * before + value.encode() + b"yz"
        for content in (text, base64.b64encode(text), base64.urlsafe_b64encode(text), text.hex().encode()):
            assert canaries.found_in(b"begin " + content + b" end") == {"wrong API key"}
    assert canaries.found_in(quote(json.dumps({"k": f"/{value}+"})).encode()) == {"wrong API key"}
    assert canaries.found_in(b"nothing") == set()
