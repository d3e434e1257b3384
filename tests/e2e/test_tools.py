"""Tools of every kind over HTTP: secrets, guarded addresses, links from configs, errors."""

import time
from typing import Any

import httpx
import pytest

from tests.acceptance.test_snippet_tool import chat, complete, console, new_tool, sent, snippet
from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.fake_servers.web import Answer, Web, redirect, serving

KEY = "wk-very-secret-0123456789"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def made(api: httpx.Client, settings: Json, name: str | None = None, **fields: Any) -> Json:
    """A tool of any kind."""
    body = {"name": name or f"tool_{reference()}", "settings": settings, **fields}
    tool: Json = ok(api.post(console(api, "/tools"), json=body), 201)
    return tool


def get_api(api: httpx.Client, url: str, *parameters: str, **fields: Any) -> Json:
    return made(api, {"kind": "get_api", "url": url, "query_parameters": list(parameters)}, **fields)


def schema(api: httpx.Client, **fields: Any) -> Json:
    return made(api, {"kind": "json_schema", "description": "Tells the weather", "parameters": PARAMETERS, **fields})


def link(tool: Json) -> Json:
    return {"id": tool["id"], "source": "organization"}


def present(tools: list[Json]) -> list[Json]:
    """Without the fields that say nothing."""
    return [{name: value for name, value in tool.items() if value is not None} for tool in tools]


def linked_chat(api: httpx.Client, project: str, *tools: Json) -> httpx.Response:
    config = {"model": "gpt-4", "tools": list(tools)}
    messages = [{"role": "user", "content": "Rain?"}]
    return api.post("/chat", json={"project": project, "model_config": config, "messages": messages})


class TestKeeping:
    def test_a_name_is_unique(self, api: httpx.Client) -> None:
        first, second = new_tool(api), new_tool(api)
        again = api.post(console(api, "/tools"), json={"name": first["name"], "settings": {"kind": "json_schema"}})
        renamed = api.patch(console(api, f"/tools/{second['id']}"), json={"name": first["name"]})
        for refused in (again, renamed):
            assert refused.status_code == 409
            assert first["name"] in refused.json()["detail"]["message"]

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"name": "a b"}, "name"),
            ({"name": ""}, "name"),
            ({"name": "näme"}, "name"),
            ({"name": "x" * 65}, "name"),
            ({"settings": {"kind": "poem"}}, "kind"),
            ({"settings": {}}, "kind"),
            ({"settings": {"kind": "snippet"}}, "pairs"),
            ({"settings": {"kind": "json_schema", "description": "x" * 100_001}}, "description"),
            ({"settings": {"kind": "json_schema", "parameters": {"title": "x" * 100_000}}}, "parameters"),
            ({"settings": {"kind": "snippet", "pairs": [], "url": "x"}}, "url"),
            ({"settings": {"kind": "get_api", "url": "ftp://e.org"}}, "https://"),
            ({"settings": {"kind": "google"}}, "serpapi_key"),
            ({"settings": {"kind": "google"}, "secrets": {"serpapi_key": ""}}, "serpapi_key"),
            ({"settings": {"kind": "pinecone", "index": "i"}, "secrets": {"pinecone_key": "p"}}, "openai_key"),
            ({"secrets": {"key": "k"}}, "key"),
            ({"secrets": {"password": "k"}}, "password"),
            ({"secrets": {"key": "a\r\nb"}}, "secrets"),
            ({"nonsense": 1}, "nonsense"),
        ],
    )
    def test_what_is_no_tool_is_refused_by_field(self, api: httpx.Client, body: Json, said: str) -> None:
        given: Json = {"name": f"tool_{reference()}", "settings": snippet({"a": "b"})} | body
        refused = api.post(console(api, "/tools"), json=given)
        assert refused.status_code == 422, refused.text
        assert said in refused.text
        assert given["name"] not in [tool["name"] for tool in ok(api.get(console(api, "/tools")))]

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"settings": {"url": "https://e.org"}}, "url"),
            ({"settings": {"kind": "google"}}, "stays"),
            ({"settings": {"pairs": [{"key": "a"}]}}, "pairs.0.value"),
            ({"settings": {"pairs": None}}, "pairs"),
            ({"secrets": {"key": "k"}}, "key"),
            ({"name": "a b"}, "name"),
        ],
    )
    def test_what_cannot_be_changed_is_refused_by_field(self, api: httpx.Client, changes: Json, said: str) -> None:
        tool = new_tool(api)
        refused = api.patch(console(api, f"/tools/{tool['id']}"), json=changes)
        assert refused.status_code == 422
        assert said in refused.text
        assert ok(api.get(console(api, f"/tools/{tool['id']}"))) == tool

    def test_a_function_stays_within_bounds_when_it_is_changed(self, api: httpx.Client) -> None:
        tool = schema(api)
        for field, value in (("parameters", {"title": "x" * 100_000}), ("description", "x" * 100_001)):
            refused = api.patch(console(api, f"/tools/{tool['id']}"), json={"settings": {field: value}})
            assert (refused.status_code, field in refused.text) == (422, True)

    def test_tools_that_do_not_fit_into_one_message_are_listed(self, api: httpx.Client) -> None:
        passages = {str(number): "雨" * 100_000 for number in range(10)}
        large = [new_tool(api, passages) for _ in range(3)]
        try:
            tools = ok(api.get(console(api, "/tools")))
            assert [tool for tool in tools if tool in large] == sorted(large, key=lambda tool: str(tool["name"]))
        finally:
            for tool in large:
                api.delete(console(api, f"/tools/{tool['id']}"))

    def test_what_is_not_named_stays(self, api: httpx.Client) -> None:
        tool = schema(api, strict=True)
        changed = ok(api.patch(console(api, f"/tools/{tool['id']}"), json={"settings": {"description": None}}))
        assert changed["settings"] == tool["settings"] | {"description": None}
        assert (changed["name"], changed["created_at"]) == (tool["name"], tool["created_at"])
        assert changed["updated_at"] > tool["updated_at"]

    @pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "POST"])
    def test_an_unknown_tool_is_404(self, api: httpx.Client, method: str) -> None:
        tool = new_tool(api)
        assert api.delete(console(api, f"/tools/{tool['id']}")).status_code == 204
        path = console(api, f"/tools/{tool['id']}{'/run' if method == 'POST' else ''}")
        body: Json | None = None if method in {"GET", "DELETE"} else {}
        assert api.request(method, path, json=body).status_code == 404

    def test_without_a_key_there_is_nothing_to_see(self, api: httpx.Client) -> None:
        assert httpx.get(console(api, "/tools")).status_code == 401


class TestSecrets:
    def test_a_secret_is_used_and_never_shown(self, api: httpx.Client, openai: FakeOpenAI, web: Web) -> None:
        web.paths["/rain"] = Answer(b"wet")
        tool = get_api(api, f"{web.url}/rain", "city", secrets={"key": KEY})
        answers = [
            ok(api.get(console(api, f"/tools/{tool['id']}"))),
            ok(api.get(console(api, "/tools"))),
            ok(api.post(console(api, f"/tools/{tool['id']}/run"), json={"arguments": ["Oslo"]})),
            ok(chat(api, f"{{{{ {tool['name']}(city) }}}}", inputs={"city": "Oslo"})),
        ]
        assert tool["secrets"] == {"key": KEY[-4:]}
        assert KEY not in str([tool, answers])
        assert sent(openai) == "wet"
        assert [asked.headers["x-api-key"] for asked in web.asked] == [KEY, KEY]
        assert [asked.query for asked in web.asked] == [{"city": "Oslo"}] * 2

    def test_an_update_without_a_secret_keeps_it_and_an_empty_one_takes_it_away(
        self, api: httpx.Client, web: Web
    ) -> None:
        web.paths["/rain"] = Answer(b"wet")
        tool = get_api(api, f"{web.url}/rain", secrets={"key": KEY})
        path = console(api, f"/tools/{tool['id']}")
        for changes, tails in (
            ({"settings": {"key_header": "X-Weather"}}, {"key": KEY[-4:]}),
            ({"secrets": {"key": "another-key-of-mine"}}, {"key": "mine"}),
            ({"secrets": {"key": "short"}}, {"key": ""}),
            ({"secrets": {"key": ""}}, {}),
        ):
            assert ok(api.patch(path, json=changes))["secrets"] == tails
            ok(api.post(f"{path}/run", json={}))
        assert [asked.headers.get("x-weather") for asked in web.asked] == [KEY, "another-key-of-mine", "short", None]

    def test_a_stored_secret_does_not_follow_the_tool_to_another_server(self, api: httpx.Client, web: Web) -> None:
        with serving() as other:
            other.paths["/"] = Answer(b"taken")
            tool = get_api(api, f"{web.url}/rain", secrets={"key": KEY})
            path = console(api, f"/tools/{tool['id']}")
            moved = {"settings": {"url": f"{other.url}/"}}
            refused = api.patch(path, json=moved)
            assert (refused.status_code, "send key" in refused.json()["detail"]["message"]) == (422, True)
            assert ok(api.get(path)) == tool
            assert ok(api.patch(path, json={"settings": {"url": f"{web.url}/snow"}}))["secrets"] == {"key": KEY[-4:]}
            for secret in ("a-key-for-there", ""):
                ok(api.patch(path, json=moved | {"secrets": {"key": secret}}))
                ok(api.post(f"{path}/run", json={}))
            assert [asked.headers.get("x-api-key") for asked in other.asked] == ["a-key-for-there", None]

    def test_a_stored_secret_does_not_follow_an_index_to_another_host(self, api: httpx.Client) -> None:
        settings = {"kind": "pinecone", "index": "docs", "host": "docs.svc.pinecone.io"}
        tool = made(api, settings, secrets={"pinecone_key": KEY, "openai_key": KEY})
        path = console(api, f"/tools/{tool['id']}")
        for host in ("docs.evil.org", None, "http://docs.svc.pinecone.io"):
            refused = api.patch(path, json={"settings": {"host": host}, "secrets": {"openai_key": KEY}})
            assert (refused.status_code, "send pinecone_key" in refused.json()["detail"]["message"]) == (422, True)
        same = {"host": "https://docs.svc.pinecone.io:443", "index": "other"}
        assert ok(api.patch(path, json={"settings": same}))["secrets"].keys() == {"pinecone_key", "openai_key"}
        ok(api.patch(path, json={"settings": {"host": "docs.evil.org"}, "secrets": {"pinecone_key": "p" * 12}}))


class TestFence:
    @pytest.mark.parametrize(
        "url",
        [
            *("http://localhost:{port}/", "http://[::1]:{port}/", "http://127.1:{port}/", "http://0x7f000001:{port}/"),
            *("http://[::ffff:127.0.0.1]:{port}/", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/"),
            *("http://0.0.0.0:{port}/", "http://192.168.0.1/", "http://[fd00:ec2::254]/", "https://100.100.100.200/"),
        ],
    )
    def test_an_inside_address_is_refused(self, api: httpx.Client, openai: FakeOpenAI, web: Web, url: str) -> None:
        web.paths["/"] = Answer(b"secret of the inside")
        tool = get_api(api, url.format(port=web.port))
        tried = api.post(console(api, f"/tools/{tool['id']}/run"), json={})
        called = chat(api, f"{{{{ {tool['name']}( ) }}}}")
        for refused in (tried, called):
            assert refused.status_code == 422
            assert tool["name"] in refused.json()["detail"]["message"]
            assert "public internet" in refused.json()["detail"]["message"]
        assert web.asked == []
        assert openai.requests == []

    @pytest.mark.parametrize(
        "target", ["http://localhost:{port}/x", "http://[::1]:{port}/x", "http://169.254.169.254/"]
    )
    def test_a_redirect_to_the_inside_is_refused(self, api: httpx.Client, web: Web, target: str) -> None:
        web.paths["/"] = redirect(target.format(port=web.port))
        web.paths["/x"] = Answer(b"secret of the inside")
        tool = get_api(api, web.url)
        refused = api.post(console(api, f"/tools/{tool['id']}/run"), json={})
        assert refused.status_code == 422
        assert [asked.path for asked in web.asked] == ["/"]


class TestTemplates:
    def test_tools_of_one_request_run_at_once(self, api: httpx.Client, openai: FakeOpenAI, web: Web) -> None:
        waiting: list[float] = []

        def answer(_: Any) -> Answer:
            waiting.append(time.monotonic())
            return Answer(b"wet", delay_seconds=0.5)

        web.paths["/rain"] = answer
        tool = get_api(api, f"{web.url}/rain", "city")
        template = " ".join(f'{{{{ {tool["name"]}("{city}") }}}}' for city in ("Oslo", "Rome", "Paris", "Oslo"))
        ok(chat(api, template))
        assert sent(openai) == "wet wet wet wet"
        assert len(waiting) == 3, "equal text is one call"
        assert max(waiting) - min(waiting) < 0.5, "the last began before the first was done"

    def test_a_result_is_not_read_as_template(self, api: httpx.Client, openai: FakeOpenAI) -> None:
        tool = new_tool(api, {"a": "{{ secret }} {{ other(x) }}"})
        ok(chat(api, f'{{{{ {tool["name"]}("a") }}}}', inputs={"secret": "hidden"}))
        assert sent(openai) == "{{ secret }} {{ other(x) }}"

    @pytest.mark.parametrize("kind", [chat, complete])
    @pytest.mark.parametrize(
        ("call", "said"),
        [
            ("no-such-tool(x)", "'no-such-tool'"),
            ('{name}("helpful", 2)', "takes 1 arguments, as in {name}(key)"),
            ("{name}( )", "gives 0"),
            ('{name}("helpful" "grumpy")', "cannot be read"),
        ],
    )
    def test_a_call_that_cannot_be_made_is_refused(
        self, api: httpx.Client, openai: FakeOpenAI, kind: Any, call: str, said: str
    ) -> None:
        name = new_tool(api)["name"]
        refused = kind(api, f"{{{{ {call.format(name=name)} }}}}", inputs={"x": "y"})
        assert refused.status_code == 422
        assert said.format(name=name) in refused.json()["detail"]["message"]
        assert openai.requests == []

    @pytest.mark.parametrize(("status", "told"), [(500, 502), (429, 429), (401, 401), (404, 422)])
    def test_a_failing_tool_fails_the_call_and_is_logged(
        self, api: httpx.Client, openai: FakeOpenAI, web: Web, status: int, told: int
    ) -> None:
        web.paths["/rain"] = Answer(b"no", status)
        tool, project = get_api(api, f"{web.url}/rain"), f"tools-{reference()}"
        detail = chat(api, f"{{{{ {tool['name']}( ) }}}}", project=project).json()["detail"]
        assert (detail["code"], detail["origin"]) == (told, "127.0.0.1")
        assert tool["name"] in detail["message"]
        assert openai.requests == []
        registered = ok(api.post("/model-configs", json={"model": "m", "endpoint": "chat", "project": project}))
        (log,) = ok(api.get("/logs", params={"project_id": registered["project_id"]}))["records"]
        assert log["error"] == detail["message"]

    def test_a_template_calls_tools_a_hundred_times_at_most(self, api: httpx.Client, openai: FakeOpenAI) -> None:
        name = new_tool(api)["name"]
        calls = [f'{{{{ {name}("helpful"{" " * number}) }}}}' for number in range(101)]
        ok(chat(api, " ".join(calls[:100])))
        assert chat(api, " ".join(calls)).status_code == 422
        assert len(openai.requests) == 1

    def test_a_schema_cannot_be_called_in_a_template(self, api: httpx.Client) -> None:
        tool = schema(api)
        tried = api.post(console(api, f"/tools/{tool['id']}/run"), json={"arguments": ["Oslo"]})
        for refused in (tried, chat(api, f'{{{{ {tool["name"]}("Oslo") }}}}')):
            assert refused.status_code == 422
            assert "link it" in refused.json()["detail"]["message"]

    def test_a_deleted_tool_is_missed_by_the_next_call(self, api: httpx.Client) -> None:
        tool = new_tool(api)
        template = f'{{{{ {tool["name"]}("helpful") }}}}'
        ok(chat(api, template))
        assert api.delete(console(api, f"/tools/{tool['id']}")).status_code == 204
        refused = chat(api, template)
        assert refused.status_code == 422
        assert repr(tool["name"]) in refused.json()["detail"]["message"]

    def test_nothing_of_tools_is_kept_when_nothing_shall_be(self, api: httpx.Client) -> None:
        tool = new_tool(api)
        data = ok(chat(api, f'{{{{ {tool["name"]}("helpful") }}}}', save=False))["data"]
        assert data[0]["tool_results"] != []
        assert ok(api.get(f"/logs/{data[0]['id']}"))["tools"] == []


class TestLinks:
    def test_a_link_is_the_tool_as_it_is_now(self, api: httpx.Client, openai: FakeOpenAI) -> None:
        tool, project = schema(api, strict=True), f"tools-{reference()}"
        inline = {"name": "own", "parameters": PARAMETERS}
        first = ok(linked_chat(api, project, link(tool), inline))["data"][0]
        assert [sent_tool["function"] for sent_tool in openai.last.body["tools"]] == [
            {
                "name": tool["name"],
                "description": "Tells the weather",
                "parameters": PARAMETERS,
                "strict": True,
            },
            inline,
        ]
        name = f"forecast_{reference()}"
        ok(api.patch(console(api, f"/tools/{tool['id']}"), json={"name": name, "settings": {"description": "New"}}))
        second = ok(linked_chat(api, project, link(tool), inline))["data"][0]
        function = openai.last.body["tools"][0]["function"]
        assert (function["name"], function["description"]) == (name, "New")
        assert first["model_config_id"] == second["model_config_id"]

    def test_configs_show_what_they_link_to(self, api: httpx.Client) -> None:
        tool, project = schema(api), f"tools-{reference()}"
        body = {"model": "gpt-4", "endpoint": "chat", "project": project, "tools": [link(tool)]}
        config = ok(api.post("/model-configs", json=body))["config"]
        shown = {"id": tool["id"], "name": tool["name"], "description": "Tells the weather", "parameters": PARAMETERS}
        assert present(config["tools"]) == [shown | {"source": "organization"}]
        log = ok(linked_chat(api, project, link(tool)))["data"][0]
        ok(api.patch(console(api, f"/tools/{tool['id']}"), json={"settings": {"description": "New"}}))
        shown = shown | {"description": "New", "source": "organization"}
        assert present(ok(api.get(f"/model-configs/{config['id']}"))["tools"]) == [shown]
        assert present(ok(api.get(f"/logs/{log['id']}"))["config"]["tools"]) == [shown]
        project_id = ok(api.get(f"/logs/{log['id']}"))["project_id"]
        assert present(ok(api.get(f"/projects/{project_id}/active-config"))["config"]["tools"]) == [shown]
        assert present(ok(api.get(f"/projects/{project_id}/configs"))[-1]["config"]["tools"]) == [shown]
        assert present(ok(api.get(f"/projects/{project_id}"))["active_config"]["config"]["tools"]) == [shown]
        assert api.delete(console(api, f"/tools/{tool['id']}")).status_code == 204
        assert ok(api.get(f"/model-configs/{config['id']}"))["tools"][0]["id"] == tool["id"]

    def test_a_link_to_nothing_is_refused_by_its_id(self, api: httpx.Client, openai: FakeOpenAI) -> None:
        tool, project = schema(api), f"tools-{reference()}"
        ok(linked_chat(api, project, link(tool)))
        openai.clear()
        assert api.delete(console(api, f"/tools/{tool['id']}")).status_code == 204
        refused = linked_chat(api, project, link(tool))
        assert refused.status_code == 422
        assert tool["id"] in refused.json()["detail"]["message"]
        assert openai.requests == []

    def test_a_link_to_another_kind_is_refused_by_its_name(self, api: httpx.Client) -> None:
        tool = new_tool(api)
        refused = linked_chat(api, f"tools-{reference()}", link(tool))
        assert refused.status_code == 422
        assert tool["name"] in refused.json()["detail"]["message"]
        assert "snippet" in refused.json()["detail"]["message"]
