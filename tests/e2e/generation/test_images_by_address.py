"""Images named by address, for providers that take data only."""

import base64
from typing import Any

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.fake_servers.server import FakeServer
from tests.fake_servers.web import FakeWebServer, WebResponse
from tests.stack import Stack

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
PICTURE = WebResponse(PNG, headers={"Content-Type": "image/png"})
MODELS = {"google": "gemini-2.5-flash", "bedrock": "anthropic.claude-3-5-sonnet-20240620-v1:0"}


def ask(api: httpx.Client, provider: str, url: str, **fields: Any) -> httpx.Response:
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    body: Json = {
        "project": f"images-{reference()}",
        "model_config": {"provider": provider, "model": MODELS[provider]},
        "messages": [{"role": "user", "content": content}],
    }
    return api.post("/chat", json=body | fields)


@pytest.mark.parametrize("provider", MODELS)
def test_the_provider_is_sent_the_data_and_the_log_keeps_the_url(
    api: httpx.Client, fake_providers: dict[str, FakeServer], web: FakeWebServer, provider: str
) -> None:
    web.responses["/cat.png"] = PICTURE
    answer = ok(ask(api, provider, f"{web.url}/cat.png"))
    assert base64.b64encode(PNG).decode() in str(fake_providers[provider].last.body)
    assert web.url not in str(fake_providers[provider].last.body)
    log = ok(api.get(f"/logs/{answer['data'][0]['id']}"))
    for messages in (answer["data"][0]["messages"], log["messages"]):
        assert messages[0]["content"][1]["image_url"]["url"] == f"{web.url}/cat.png"
    assert base64.b64encode(PNG).decode() in str(log["provider_request"])


def test_no_image_is_fetched_if_another_one_names_a_missing_blob(api: httpx.Client, web: FakeWebServer) -> None:
    web.responses["/cat.png"] = PICTURE
    urls = (f"{web.url}/cat.png", "data:image/png;base64,everloop-blob:" + "0" * 64)
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    refused = ask(api, "google", "", messages=[{"role": "user", "content": content}])
    assert (refused.status_code, "There is no data" in refused.text) == (422, True)
    assert web.requests == []


def test_the_scheme_of_a_data_url_may_be_in_capitals(api: httpx.Client, fake_providers: dict[str, FakeServer]) -> None:
    data = base64.b64encode(PNG).decode()
    ok(ask(api, "google", f"DATA:image/png;base64,{data}"))
    assert data in str(fake_providers["google"].last.body)


def test_a_large_image_is_stored_beside_the_log(
    api: httpx.Client, fake_providers: dict[str, FakeServer], web: FakeWebServer
) -> None:
    large = PNG * 20_000
    web.responses["/large.png"] = WebResponse(large, headers={"Content-Type": "image/png"})
    answer = ok(ask(api, "google", f"{web.url}/large.png"))
    data = base64.b64encode(large).decode()
    assert data in str(fake_providers["google"].last.body)
    log = ok(api.get(f"/logs/{answer['data'][0]['id']}"))
    assert data in str(log["provider_request"])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/page", "There is no image at"),
        ("/missing", "404"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("http://10.0.0.1/cat.png", "10.0.0.1"),
        ("ftp://example.com/cat.png", "http"),
    ],
)
def test_an_image_that_cannot_be_fetched_is_a_422_and_a_log(
    api: httpx.Client, fake_providers: dict[str, FakeServer], web: FakeWebServer, path: str, words: str
) -> None:
    web.responses["/page"] = WebResponse(b"<html>", headers={"Content-Type": "text/html"})
    url = path if "://" in path else web.url + path
    project = f"images-{reference()}"
    refused = ask(api, "google", url, project=project)
    assert refused.status_code == 422
    assert words in refused.json()["detail"]["message"]
    assert fake_providers["google"].requests == []
    found = ok(api.get("/projects", params={"filter": project}))["records"][0]
    (log,) = ok(api.get("/logs", params={"project_id": found["id"]}))["records"]
    assert log["error"] == refused.json()["detail"]["message"]


@pytest.mark.parametrize(
    ("model", "role", "words"),
    [
        ({"provider": "bedrock", "model": "meta.llama3-8b-instruct-v1:0"}, "user", "cannot do images"),
        ({"provider": "google", "model": MODELS["google"]}, "system", "cannot do images in the system message"),
    ],
)
def test_a_request_that_is_refused_for_another_reason_fetches_no_image(
    api: httpx.Client, fake_providers: dict[str, FakeServer], web: FakeWebServer, model: Json, role: str, words: str
) -> None:
    images = [{"type": "image_url", "image_url": {"url": f"{web.url}/{number}.png"}} for number in range(50)]
    messages = [{"role": role, "content": images}, {"role": "user", "content": "What is it?"}]
    refused = ask(api, model["provider"], "", model_config=model, messages=messages)
    assert refused.status_code == 422
    assert words in refused.json()["detail"]["message"]
    assert web.requests == []
    assert fake_providers[model["provider"]].requests == []


def test_images_that_are_too_large_together_are_refused(
    api: httpx.Client, fake_providers: dict[str, FakeServer], web: FakeWebServer
) -> None:
    large = WebResponse(b"x" * 15 * 1024 * 1024, headers={"Content-Type": "image/png"})
    web.responses |= {f"/{number}.png": large for number in range(10)}
    images = [{"type": "image_url", "image_url": {"url": f"{web.url}/{number}.png"}} for number in range(10)]
    refused = ask(api, "google", "", messages=[{"role": "user", "content": images}])
    assert refused.status_code == 413
    assert "name fewer, or smaller ones" in refused.json()["detail"]["message"]
    assert len(web.requests) < 10
    assert fake_providers["google"].requests == []


def test_a_fallback_model_is_sent_the_image_without_fetching_it_again(
    api: httpx.Client, stack: Stack, fake_providers: dict[str, FakeServer], web: FakeWebServer
) -> None:
    web.responses["/cat.png"] = PICTURE
    google, asked = fake_providers["google"], {"provider": "google", "model": MODELS["google"]}
    for _ in range(3):  # as often as a model is tried
        google.reply(status=503, error={"message": "overloaded"})
    with httpx.Client(base_url=f"{stack.base_url}/api", headers=api.headers, timeout=60) as console:
        fallback = {"provider": "google", "model": "gemini-2.5-pro"}
        ok(console.put("/redirects", json={"asked": asked, "fallbacks": [fallback]}))
        try:
            ok(ask(api, "google", f"{web.url}/cat.png"))
        finally:
            console.delete("/redirects", params=asked)
    assert "gemini-2.5-pro" in google.last.path
    assert base64.b64encode(PNG).decode() in str(google.last.body)
    assert [request.path for request in web.requests] == ["/cat.png"]
