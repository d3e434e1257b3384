"""Seed rows 61 and 63-65: images in messages (behaviour.md §23 I), up to the largest that are sent."""

import hashlib
from itertools import count

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.images import MIB, data_url, image_part, image_urls, messages_with_images, store_blob, stored_chunks
from tests.sdk_scripts import SdkScripts
from tests.stack import Stack

CONFIG: Json = {"model": "gpt-4-vision-preview", "max_tokens": 200}
LOGGED = CONFIG | {"type": "model", "endpoint": "chat"}
LARGEST = 18 * MIB
PARTS = 24
"""Of 1 MiB, for the base64 of the largest image."""


@pytest.fixture
def project() -> str:
    return f"rows-images-{reference()}"


def chat(api: httpx.Client, project: str, messages: list[Json], **fields: object) -> Json:
    """A chat with the model that sees."""
    answer: Json = ok(
        api.post("/chat", json={"project": project, "model_config": CONFIG, "messages": messages} | fields)
    )
    return answer


def test_row_61_text_and_image_parts_reach_the_provider_intact(
    api: httpx.Client, openai: FakeOpenAI, project: str
) -> None:
    content = [
        {"type": "text", "text": "Compare."},
        image_part("https://example.org/cat.png", "low"),
        image_part("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "high"),
        {"type": "image_url", "image_url": {"url": "https://example.org/dog.png"}},
    ]
    answer = chat(api, project, [{"role": "user", "content": content}])
    assert openai.last.body["messages"] == [{"role": "user", "content": content}]
    assert answer["data"][0]["output"] == "Fine, thank you."


def test_row_63_a_base64_image_of_several_megabytes_is_accepted_and_stored(
    api: httpx.Client, openai: FakeOpenAI, project: str
) -> None:
    messages = messages_with_images(data_url(5 * MIB, project))
    answer = chat(api, project, messages)
    assert openai.last.body["messages"] == messages
    log = ok(api.get(f"/logs/{answer['data'][0]['id']}"))
    assert image_urls(log["messages"][0]) == image_urls(messages[0])


def test_row_64_two_images_and_text_reach_the_provider_in_order(
    api: httpx.Client, openai: FakeOpenAI, project: str
) -> None:
    messages = messages_with_images(
        data_url(2 * MIB, f"{project}-1"), data_url(3 * MIB, f"{project}-2"), text="Which is older?"
    )
    answer = chat(api, project, messages)
    assert openai.last.body["messages"] == messages
    log = ok(api.get(f"/logs/{answer['data'][0]['id']}"))
    assert image_urls(log["messages"][0]) == image_urls(messages[0])
    assert log["messages"][0]["content"][0] == messages[0]["content"][0]


def test_row_65_the_log_has_the_parts_of_the_message(api: httpx.Client, openai: FakeOpenAI, project: str) -> None:
    sent = [
        {"type": "text", "text": "Look."},
        image_part(data_url(MIB, project), "low"),
        image_part("https://example.org/a.png", "auto"),
    ]
    answer = chat(api, project, [{"role": "user", "content": sent}])
    (log_in_list,) = ok(api.get("/logs", params={"project_id": answer["project_id"]}))["records"]
    single = ok(api.get(f"/logs/{answer['data'][0]['id']}"))
    for log in (log_in_list, single):
        assert log["messages"][0]["content"] == sent
        assert log["provider_request"] == openai.last.body
    assert answer["data"][0]["messages"][0]["content"] == sent
    assert answer["provider_request"] == openai.last.body


def test_the_largest_image_is_accepted_by_every_endpoint_and_stored_once(
    api: httpx.Client, stack: Stack, openai: FakeOpenAI, project: str
) -> None:
    url = data_url(LARGEST, project)
    messages = messages_with_images(url)
    answers = [chat(api, project, messages), chat(api, project, messages)]
    logged = ok(api.post("/logs", json={"project": project, "config": LOGGED, "messages": messages, "output": "A cat"}))

    assert [image_urls(request.body["messages"][0]) for request in openai.requests] == [[url], [url]]
    assert [image_urls(answer["data"][0]["messages"][0]) for answer in answers] == [[url], [url]]
    for log_id in (answers[0]["data"][0]["id"], logged["id"]):
        assert image_urls(ok(api.get(f"/logs/{log_id}"))["messages"][0]) == [url]
    records = ok(api.get("/logs", params={"project_id": logged["project_id"]}))["records"]
    assert [image_urls(record["messages"][0]) for record in records] == [[url]] * 3
    places = stored_chunks(stack, url)
    assert set(places.values()) == {1}
    assert len(places) == PARTS + 1


def test_the_largest_image_is_sent_and_read_through_the_sdk(
    sdk735: SdkScripts, openai: FakeOpenAI, project: str
) -> None:
    url = data_url(LARGEST, project)
    done = sdk735.run("generation/send_image.py", project=project, seed=project, size=LARGEST)
    digest = hashlib.sha256(url.encode()).hexdigest()
    assert done == {"sent": digest, "answer": digest, "logs": [digest] * 2, "list": [digest] * 2}
    assert image_urls(openai.last.body["messages"][0]) == [url]


def test_the_largest_image_is_accepted_in_a_streamed_call(api: httpx.Client, openai: FakeOpenAI, project: str) -> None:
    messages = messages_with_images(data_url(LARGEST, project))
    body = {"project": project, "model_config": CONFIG, "messages": messages, "stream": True}
    with api.stream("POST", "/chat", json=body) as response:
        events = [line for line in response.iter_lines() if line]
    assert response.status_code == 200
    assert all(len(event) < 4096 for event in events)
    assert openai.last.body["messages"] == messages
    project_id = ok(api.post("/logs", json={"project": project, "config": LOGGED}))["project_id"]
    records = ok(api.get("/logs", params={"project_id": project_id, "search": "thank"}))["records"]
    assert [record["messages"] and image_urls(record["messages"][0]) for record in records] == [image_urls(messages[0])]


def test_a_large_image_in_a_deployed_template_is_sent_to_the_provider(
    api: httpx.Client, openai: FakeOpenAI, project: str
) -> None:
    template = [
        {"role": "user", "content": [{"type": "text", "text": "Like {{it}}?"}, image_part(data_url(5 * MIB, project))]}
    ]
    config = CONFIG | {"chat_template": template}
    registered = ok(api.post("/model-configs", json=config | {"endpoint": "chat", "project": project}))
    assert registered["config"]["chat_template"][0]["content"] == template[0]["content"]
    answer = ok(api.post("/chat-deployed", json={"project": project, "inputs": {"it": "this"}, "messages": []}))
    assert answer["data"][0]["model_config_id"] == registered["config"]["id"]
    sent = openai.last.body["messages"][0]["content"]
    assert sent == [{"type": "text", "text": "Like this?"}, template[0]["content"][1]]
    read = ok(api.get(f"/model-configs/{registered['config']['id']}"))
    assert read["chat_template"][0]["content"] == template[0]["content"]


def test_a_data_url_in_the_inputs_is_substituted_into_the_text(
    api: httpx.Client, openai: FakeOpenAI, project: str
) -> None:
    url = data_url(MIB, project)
    config = CONFIG | {"chat_template": [{"role": "user", "content": "Describe {{picture}}, please."}]}
    answer = chat(api, project, [], model_config=config, inputs={"picture": url})
    assert openai.last.body["messages"] == [{"role": "user", "content": f"Describe {url}, please."}]
    assert ok(api.get(f"/logs/{answer['data'][0]['id']}"))["inputs"] == {"picture": url}


def test_an_image_in_any_field_of_a_log_is_read_back(api: httpx.Client, project: str) -> None:
    numbers = count()

    def url() -> str:
        return data_url(100_000, f"{project}-{next(numbers)}")

    fields: Json = {
        "inputs": {"deep": [{"er": url()}]},
        "metadata": {"thumbnail": url()},
        "messages": messages_with_images(url(), url()),
        "output": url(),
        "error": url(),
        "stdout": url(),
        "output_message": {"role": "assistant", "content": url()},
        "provider_request": {"messages": messages_with_images(url())},
        "provider_response": {"image": url()},
    }
    created = ok(api.post("/logs", json=[{"project": project, "config": LOGGED, **fields}] * 2))
    log = ok(api.get(f"/logs/{created[1]['id']}"))
    assert image_urls(log["messages"][0]) == image_urls(fields["messages"][0])
    assert log["output_message"]["content"] == fields["output_message"]["content"]
    for name in set(fields) - {"messages", "output_message"}:
        assert log[name] == fields[name], name
    update = {"output": url()}
    reference_id = f"later-{project}"
    later = ok(api.post("/logs", json={"project": project, "config": LOGGED, "reference_id": reference_id}))
    assert ok(api.patch(f"/logs/{later['id']}", json=update))["output"] == update["output"]
    assert ok(api.get(f"/logs/{later['id']}"))["output"] == update["output"]


def test_long_text_is_refused_with_a_sentence_however_large_its_images(api: httpx.Client, project: str) -> None:
    messages = messages_with_images(data_url(2 * MIB, project), text="x" * (5 * MIB))
    refused = api.post("/chat", json={"project": project, "model_config": CONFIG, "messages": messages})
    assert refused.status_code == 413
    assert "The text of this request takes 5,24" in refused.json()["detail"]["message"]
    whole = api.post("/logs", content=b" " * (48 * MIB + 1), headers={"Content-Type": "application/json"})
    assert whole.status_code == 413
    assert "50,331,648" in whole.json()["detail"]["message"]


def test_a_refused_request_stores_no_image(api: httpx.Client, stack: Stack, project: str) -> None:
    url = data_url(MIB, project)
    body = {"project": project, "model_config": CONFIG, "messages": messages_with_images(url)}
    assert api.post("/chat", json=body | {"num_samples": 0}).status_code == 422
    assert api.post("/chat", json=body, headers={"X-API-KEY": "wrong"}).status_code == 401
    assert stored_chunks(stack, url) == {}


def kinds(stack: Stack, url: str) -> set[str]:
    """How the data of this URL is stored: `brief`, `for good`, both, or not at all."""
    return {"brief" if ".brief." in place else "for good" for place in stored_chunks(stack, url)}


def test_images_of_calls_with_save_false_expire(
    api: httpx.Client, stack: Stack, openai: FakeOpenAI, project: str
) -> None:
    url, kept, template = data_url(MIB, project), data_url(MIB, f"{project}-2"), data_url(MIB, f"{project}-3")
    config = CONFIG | {"chat_template": messages_with_images(template)}
    for save in (False, "no"):
        answer = chat(api, project, messages_with_images(url), metadata={"its": kept}, model_config=config, save=save)
        assert [image_urls(message) for message in openai.last.body["messages"]] == [[template], [url]]
        assert image_urls(answer["data"][0]["messages"][-1]) == [url]
        log = ok(api.get(f"/logs/{answer['data'][0]['id']}"))
        assert (log["messages"], log["metadata"]) == (None, {"its": kept})
        assert [kinds(stack, one) for one in (url, kept, template)] == [{"brief"}, {"for good"}, {"for good"}]
    chat(api, project, messages_with_images(url))
    assert kinds(stack, url) == {"brief", "for good"}


def test_images_of_logs_with_save_false_are_not_stored(api: httpx.Client, stack: Stack, project: str) -> None:
    first, second, shared = (data_url(MIB, f"{project}-{number}") for number in range(3))
    log = {"project": project, "config": LOGGED}
    ok(api.post("/logs", json=log | {"messages": messages_with_images(first), "save": False}))
    hidden, shown = (
        log | {"messages": messages_with_images(second, shared), "save": False},
        log | {"messages": messages_with_images(shared)},
    )
    created = ok(api.post("/logs", json=[hidden, shown]))
    messages = [ok(api.get(f"/logs/{one['id']}"))["messages"] for one in created]
    assert (messages[0], image_urls(messages[1][0])) == (None, [shared])
    assert [kinds(stack, url) for url in (first, second, shared)] == [set(), set(), {"for good"}]


@pytest.mark.parametrize("by", ["id", "reference"])
def test_an_update_of_a_log_with_save_false_stores_no_image(
    api: httpx.Client, stack: Stack, project: str, by: str
) -> None:
    for save, expected in ((True, {"for good"}), (False, set())):
        name, url = reference(), data_url(MIB, f"{project}-{save}")
        made = ok(api.post("/logs", json={"project": project, "config": LOGGED, "reference_id": name, "save": save}))
        path, query = (f"/logs/{made['id']}", {}) if by == "id" else ("/logs", {"reference_id": name})
        log = ok(api.patch(path, params=query, json={"output": url}))
        assert log["output"] == (url if save else None)
        assert kinds(stack, url) == expected


def test_feedback_is_stored_with_logs_of_save_false(
    api: httpx.Client, stack: Stack, openai: FakeOpenAI, project: str
) -> None:
    judged, said, asked, schema = (data_url(MIB, f"{project}-{number}") for number in range(4))
    feedback = {"type": "picture", "value": [said]}
    log = {"project": project, "config": LOGGED, "judgment": judged, "feedback": feedback, "save": False}
    made = ok(api.post("/logs", json=log))
    assert ok(api.get(f"/logs/{made['id']}"))["feedback"][0]["value"] == [said]
    form = {"type": "json_object", "json_schema": {"its": schema}}
    config = {"model": "gpt-4-1106-preview"}
    messages = [{"role": "user", "content": "JSON"}]
    chat(api, project, messages, model_config=config, user=asked, response_format=form, save=False)
    assert openai.last.body["user"] == asked
    assert [kinds(stack, url) for url in (judged, said, asked, schema)] == [set(), {"for good"}, {"brief"}, {"brief"}]


def test_a_blob_token_in_text_stays_text(api: httpx.Client, openai: FakeOpenAI, project: str) -> None:
    text = f"What is everloop-blob:{'0' * 64}?"
    answer = chat(api, project, [{"role": "user", "content": text}])
    assert openai.last.body["messages"][0]["content"] == text
    assert answer["data"][0]["messages"][0]["content"] == text
    assert ok(api.get(f"/logs/{answer['data'][0]['id']}"))["messages"][0]["content"] == text


def test_a_blob_token_of_another_organisation_is_refused(
    api: httpx.Client, stack: Stack, openai: FakeOpenAI, project: str
) -> None:
    url = data_url(MIB, project)
    token = store_blob(stack, "tm_somebodyElse", url)
    assert len(stored_chunks(stack, url)) == 3
    messages = messages_with_images(f"data:image/png;base64,{token}")
    refused = api.post("/chat", json={"project": project, "model_config": CONFIG, "messages": messages})
    assert refused.status_code == 422
    assert token in refused.json()["detail"]["message"]
    assert openai.requests == []
    created = ok(api.post("/logs", json={"project": project, "config": LOGGED, "messages": messages, "output": token}))
    log = ok(api.get(f"/logs/{created['id']}"))
    assert (log["messages"][0]["content"], log["output"]) == (messages[0]["content"], token)
