"""Templates that would stand for gigabytes, or take minutes, are refused; the organisation beside notices nothing."""

import base64
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from shared.blobs import TOKEN
from tests.abuse.attacks.templates import attacks, chat, completion
from tests.calls import Json, ok, reference
from tests.stack import Stack

ATTACKS = attacks()


@pytest.mark.usefixtures("victim", "memory")
def test_a_template_that_grows_is_refused_with_what_to_shorten(api: httpx.Client) -> None:
    for name, attack in ATTACKS.items():
        answer = api.post(attack.path, json=attack.body)
        if attack.refusal is None:
            ok(answer)
            continue
        assert answer.status_code == 422, (name, answer.text[:500])
        assert attack.refusal in answer.json()["detail"]["message"], name
        assert len(answer.content) < 50_000, name


@pytest.mark.usefixtures("victim", "memory")
def test_many_such_requests_at_once_leave_nothing_behind(stack: Stack, api: httpx.Client) -> None:
    body = ATTACKS["a list written 500 times"].body

    def attack(_: int) -> int:
        headers = {"X-API-KEY": stack.api_key}
        return httpx.post(f"{stack.url}/completion", json=body, headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(8) as attackers:
        assert set(attackers.map(attack, range(40))) == {422}
    assert ok(api.post("/completion", json=completion("{{x}}", {"x": ["still"]})))["data"][0]["output"] == '["still"]'


@pytest.mark.usefixtures("victim", "memory")
def test_results_of_tools_are_counted_however_often_they_stand_there(api: httpx.Client, stack: Stack) -> None:
    name = f"passages-{reference()}"
    settings = {"kind": "snippet", "pairs": [{"key": "k", "value": "a" * 100_000}]}
    ok(api.post(f"{stack.base_url}/api/tools", json={"name": name, "settings": settings}), 201)
    often = api.post("/completion", json=completion(f'{{{{ {name}("k") }}}}' * 100, {}))
    assert often.status_code == 422
    assert f"'{name}(\"k\")'" in often.json()["detail"]["message"].replace("\\", "")
    variants = "".join(f'{{{{ {name}({" " * number}"k") }}}}' for number in range(1, 60))
    various = api.post("/completion", json=completion(variants, {}))
    assert various.status_code == 422
    assert "results of the template's tools" in various.json()["detail"]["message"]


@pytest.mark.usefixtures("memory")
def test_a_refused_template_leaves_one_log_a_sample_without_the_text(api: httpx.Client) -> None:
    project = f"refused {reference()}"
    body = chat([{"role": "user", "content": "{{x}}"}] * 500, {"x": "b" * 10_000}, project=project, num_samples=3)
    assert api.post("/chat", json=body).status_code == 422
    project_id = ok(api.get("/projects", params={"name": project}))["records"][0]["id"]
    logs = ok(api.get("/logs", params={"project_id": project_id}))["records"]
    assert len(logs) == 3
    assert all("more than 4,194,304 bytes" in log["error"] for log in logs)


@pytest.mark.usefixtures("memory")
def test_what_fits_is_written_whole(api: httpx.Client) -> None:
    body = completion("{{x}}{{x}}", {"x": "ü" * 400_000})
    assert ok(api.post("/completion", json=body | {"return_inputs": False}))["data"][0]["output"] == "ü" * 800_000


@pytest.mark.usefixtures("victim", "memory")
def test_an_image_that_a_request_names_many_times_takes_bounded_memory(stack: Stack, api: httpx.Client) -> None:
    data = base64.b64encode(os.urandom(6_000_000)).decode()

    def body(url: str, times: int) -> Json:
        image = {"type": "image_url", "image_url": {"url": url}}
        config = {"provider": "openai", "model": "gpt-4-vision-preview"}
        return {
            "project": "pictures",
            "model_config": config,
            "messages": [{"role": "user", "content": [image] * times}],
        }

    ok(api.post("/chat", json=body(f"data:image/png;base64,{data}", 1)))
    token = f"data:image/png;base64,{TOKEN}{hashlib.sha256(data.encode()).hexdigest()}"
    refused = api.post("/chat", json=body(token, 10))
    assert refused.status_code == 413
    assert "at most 50,331,648 fit" in refused.json()["detail"]["message"]

    def attack(_: int) -> int:
        headers = {"X-API-KEY": stack.api_key}
        with httpx.stream("POST", f"{stack.url}/chat", json=body(token, 3), headers=headers, timeout=60) as answer:
            return answer.status_code

    with ThreadPoolExecutor(6) as attackers:
        assert set(attackers.map(attack, range(12))) <= {200, 503}
    ok(api.post("/chat", json=body(token, 1)))
