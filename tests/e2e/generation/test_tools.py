"""Tools of every kind over HTTP: secrets, guarded addresses, links from configs, errors."""

import time
from typing import Any

import httpx
import pytest

from tests.calls import Json, ok, reference
from tests.fake_servers.openai import FakeOpenAI
from tests.fake_servers.web import FakeWebServer, WebResponse, redirect, serve
from tests.snippet_tools import chat, complete, console_url, create_snippet_tool, last_prompt, snippet

KEY = "wk-very-secret-0123456789"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def create_tool(api: httpx.Client, settings: Json, name: str | None = None, **fields: Any) -> Json:
    """Create a tool of any kind; return the response."""
    body = {"name": name or f"tool_{reference()}", "settings": settings, **fields}
    tool: Json = ok(api.post(console_url(api, "/tools"), json=body), 201)
    return tool


def get_api(api: httpx.Client, url: str, *parameters: str, **fields: Any) -> Json:
    return create_tool(api, {"kind": "get_api", "url": url, "query_parameters": list(parameters)}, **fields)


def schema(api: httpx.Client, **fields: Any) -> Json:
    return create_tool(
        api, {"kind": "json_schema", "description": "Tells the weather", "parameters": PARAMETERS, **fields}
    )


def link(tool: Json) -> Json:
    return {"id": tool["id"], "source": "organization"}


def without_nulls(tools: list[Json]) -> list[Json]:
    """Return the tools without their fields that are null."""
    return [{name: value for name, value in tool.items() if value is not None} for tool in tools]


def linked_chat(api: httpx.Client, project: str, *tools: Json) -> httpx.Response:
    config = {"model": "gpt-4", "tools": list(tools)}
    messages = [{"role": "user", "content": "Rain?"}]
    return api.post("/chat", json={"project": project, "model_config": config, "messages": messages})


class TestSettings:
    def test_a_name_is_unique(self, api: httpx.Client) -> None:
        first, second = create_snippet_tool(api), create_snippet_tool(api)
        again = api.post(console_url(api, "/tools"), json={"name": first["name"], "settings": {"kind": "json_schema"}})
        renamed = api.patch(console_url(api, f"/tools/{second['id']}"), json={"name": first["name"]})
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
    def test_an_invalid_tool_is_refused_by_field(self, api: httpx.Client, body: Json, said: str) -> None:
        given: Json = {"name": f"tool_{reference()}", "settings": snippet({"a": "b"})} | body
        refused = api.post(console_url(api, "/tools"), json=given)
        assert refused.status_code == 422, refused.text
        assert said in refused.text
        assert given["name"] not in [tool["name"] for tool in ok(api.get(console_url(api, "/tools")))]

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
    def test_an_invalid_change_is_refused_by_field(self, api: httpx.Client, changes: Json, said: str) -> None:
        tool = create_snippet_tool(api)
        refused = api.patch(console_url(api, f"/tools/{tool['id']}"), json=changes)
        assert refused.status_code == 422
        assert said in refused.text
        assert ok(api.get(console_url(api, f"/tools/{tool['id']}"))) == tool

    def test_a_change_may_not_take_a_function_over_its_limits(self, api: httpx.Client) -> None:
        tool = schema(api)
        for field, value in (("parameters", {"title": "x" * 100_000}), ("description", "x" * 100_001)):
            refused = api.patch(console_url(api, f"/tools/{tool['id']}"), json={"settings": {field: value}})
            assert (refused.status_code, field in refused.text) == (422, True)

    def test_tools_that_do_not_fit_into_one_message_are_listed(self, api: httpx.Client) -> None:
        passages = {str(number): "雨" * 100_000 for number in range(10)}
        large = [create_snippet_tool(api, passages) for _ in range(3)]
        try:
            tools = ok(api.get(console_url(api, "/tools")))
            assert [tool for tool in tools if tool in large] == sorted(large, key=lambda tool: str(tool["name"]))
        finally:
            for tool in large:
                api.delete(console_url(api, f"/tools/{tool['id']}"))

    def test_fields_that_a_change_does_not_name_stay(self, api: httpx.Client) -> None:
        tool = schema(api, strict=True)
        changed = ok(api.patch(console_url(api, f"/tools/{tool['id']}"), json={"settings": {"description": None}}))
        assert changed["settings"] == tool["settings"] | {"description": None}
        assert (changed["name"], changed["created_at"]) == (tool["name"], tool["created_at"])
        assert changed["updated_at"] > tool["updated_at"]

    @pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "POST"])
    def test_an_unknown_tool_is_404(self, api: httpx.Client, method: str) -> None:
        tool = create_snippet_tool(api)
        assert api.delete(console_url(api, f"/tools/{tool['id']}")).status_code == 204
        path = console_url(api, f"/tools/{tool['id']}{'/run' if method == 'POST' else ''}")
        body: Json | None = None if method in {"GET", "DELETE"} else {}
        assert api.request(method, path, json=body).status_code == 404

    def test_listing_tools_without_a_key_is_a_401(self, api: httpx.Client) -> None:
        assert httpx.get(console_url(api, "/tools")).status_code == 401


class TestSecrets:
    def test_a_tool_secret_is_sent_to_the_tools_server_and_never_shown(
        self, api: httpx.Client, openai: FakeOpenAI, web: FakeWebServer
    ) -> None:
        web.responses["/rain"] = WebResponse(b"wet")
        tool = get_api(api, f"{web.url}/rain", "city", secrets={"key": KEY})
        answers = [
            ok(api.get(console_url(api, f"/tools/{tool['id']}"))),
            ok(api.get(console_url(api, "/tools"))),
            ok(api.post(console_url(api, f"/tools/{tool['id']}/run"), json={"arguments": ["Oslo"]})),
            ok(chat(api, f"{{{{ {tool['name']}(city) }}}}", inputs={"city": "Oslo"})),
        ]
        assert tool["secrets"] == {"key": KEY[-4:]}
        assert KEY not in str([tool, answers])
        assert last_prompt(openai) == "wet"
        assert [request.headers["x-api-key"] for request in web.requests] == [KEY, KEY]
        assert [request.query for request in web.requests] == [{"city": "Oslo"}] * 2

    def test_an_update_without_a_secret_keeps_it_and_an_empty_one_removes_it(
        self, api: httpx.Client, web: FakeWebServer
    ) -> None:
        web.responses["/rain"] = WebResponse(b"wet")
        tool = get_api(api, f"{web.url}/rain", secrets={"key": KEY})
        path = console_url(api, f"/tools/{tool['id']}")
        for changes, tails in (
            ({"settings": {"key_header": "X-Weather"}}, {"key": KEY[-4:]}),
            ({"secrets": {"key": "another-key-of-mine"}}, {"key": "mine"}),
            ({"secrets": {"key": "short"}}, {"key": ""}),
            ({"secrets": {"key": ""}}, {}),
        ):
            assert ok(api.patch(path, json=changes))["secrets"] == tails
            ok(api.post(f"{path}/run", json={}))
        assert [request.headers.get("x-weather") for request in web.requests] == [
            KEY,
            "another-key-of-mine",
            "short",
            None,
        ]

    def test_a_stored_secret_is_not_sent_to_another_server_after_a_change_of_url(
        self, api: httpx.Client, web: FakeWebServer
    ) -> None:
        with serve() as other:
            other.responses["/"] = WebResponse(b"taken")
            tool = get_api(api, f"{web.url}/rain", secrets={"key": KEY})
            path = console_url(api, f"/tools/{tool['id']}")
            moved = {"settings": {"url": f"{other.url}/"}}
            refused = api.patch(path, json=moved)
            assert (refused.status_code, "send key" in refused.json()["detail"]["message"]) == (422, True)
            assert ok(api.get(path)) == tool
            assert ok(api.patch(path, json={"settings": {"url": f"{web.url}/snow"}}))["secrets"] == {"key": KEY[-4:]}
            for secret in ("a-key-for-there", ""):
                ok(api.patch(path, json=moved | {"secrets": {"key": secret}}))
                ok(api.post(f"{path}/run", json={}))
            assert [request.headers.get("x-api-key") for request in other.requests] == ["a-key-for-there", None]

    def test_a_stored_secret_is_not_sent_to_another_host_after_a_change_of_index(self, api: httpx.Client) -> None:
        settings = {"kind": "pinecone", "index": "docs", "host": "docs.svc.pinecone.io"}
        tool = create_tool(api, settings, secrets={"pinecone_key": KEY, "openai_key": KEY})
        path = console_url(api, f"/tools/{tool['id']}")
        for host in ("docs.evil.org", None, "http://docs.svc.pinecone.io"):
            refused = api.patch(path, json={"settings": {"host": host}, "secrets": {"openai_key": KEY}})
            assert (refused.status_code, "send pinecone_key" in refused.json()["detail"]["message"]) == (422, True)
        same = {"host": "https://docs.svc.pinecone.io:443", "index": "other"}
        assert ok(api.patch(path, json={"settings": same}))["secrets"].keys() == {"pinecone_key", "openai_key"}
        ok(api.patch(path, json={"settings": {"host": "docs.evil.org"}, "secrets": {"pinecone_key": "p" * 12}}))


class TestPublicAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            *("http://localhost:{port}/", "http://[::1]:{port}/", "http://127.1:{port}/", "http://0x7f000001:{port}/"),
            *("http://[::ffff:127.0.0.1]:{port}/", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/"),
            *("http://0.0.0.0:{port}/", "http://192.168.0.1/", "http://[fd00:ec2::254]/", "https://100.100.100.200/"),
        ],
    )
    def test_an_address_outside_the_public_internet_is_refused(
        self, api: httpx.Client, openai: FakeOpenAI, web: FakeWebServer, url: str
    ) -> None:
        web.responses["/"] = WebResponse(b"secret of the inside")
        tool = get_api(api, url.format(port=web.port))
        tried = api.post(console_url(api, f"/tools/{tool['id']}/run"), json={})
        called = chat(api, f"{{{{ {tool['name']}( ) }}}}")
        for refused in (tried, called):
            assert refused.status_code == 422
            assert tool["name"] in refused.json()["detail"]["message"]
            assert "public internet" in refused.json()["detail"]["message"]
        assert web.requests == []
        assert openai.requests == []

    @pytest.mark.parametrize(
        "target", ["http://localhost:{port}/x", "http://[::1]:{port}/x", "http://169.254.169.254/"]
    )
    def test_a_redirect_to_an_address_outside_the_public_internet_is_refused(
        self, api: httpx.Client, web: FakeWebServer, target: str
    ) -> None:
        web.responses["/"] = redirect(target.format(port=web.port))
        web.responses["/x"] = WebResponse(b"secret of the inside")
        tool = get_api(api, web.url)
        refused = api.post(console_url(api, f"/tools/{tool['id']}/run"), json={})
        assert refused.status_code == 422
        assert [request.path for request in web.requests] == ["/"]


class TestTemplates:
    def test_tools_of_one_request_run_concurrently(
        self, api: httpx.Client, openai: FakeOpenAI, web: FakeWebServer
    ) -> None:
        waiting: list[float] = []

        def answer(_: Any) -> WebResponse:
            waiting.append(time.monotonic())
            return WebResponse(b"wet", delay_seconds=0.5)

        web.responses["/rain"] = answer
        tool = get_api(api, f"{web.url}/rain", "city")
        template = " ".join(f'{{{{ {tool["name"]}("{city}") }}}}' for city in ("Oslo", "Rome", "Paris", "Oslo"))
        ok(chat(api, template))
        assert last_prompt(openai) == "wet wet wet wet"
        assert len(waiting) == 3, "equal text is one call"
        assert max(waiting) - min(waiting) < 0.5, "the last began before the first was done"

    def test_a_tool_result_is_not_read_as_a_template(self, api: httpx.Client, openai: FakeOpenAI) -> None:
        tool = create_snippet_tool(api, {"a": "{{ secret }} {{ other(x) }}"})
        ok(chat(api, f'{{{{ {tool["name"]}("a") }}}}', inputs={"secret": "hidden"}))
        assert last_prompt(openai) == "{{ secret }} {{ other(x) }}"

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
    def test_an_invalid_tool_call_in_a_template_is_refused(
        self, api: httpx.Client, openai: FakeOpenAI, kind: Any, call: str, said: str
    ) -> None:
        name = create_snippet_tool(api)["name"]
        refused = kind(api, f"{{{{ {call.format(name=name)} }}}}", inputs={"x": "y"})
        assert refused.status_code == 422
        assert said.format(name=name) in refused.json()["detail"]["message"]
        assert openai.requests == []

    @pytest.mark.parametrize(("status", "answered"), [(500, 502), (429, 429), (401, 401), (404, 422)])
    def test_a_failing_tool_fails_the_call_and_is_logged(
        self, api: httpx.Client, openai: FakeOpenAI, web: FakeWebServer, status: int, answered: int
    ) -> None:
        web.responses["/rain"] = WebResponse(b"no", status)
        tool, project = get_api(api, f"{web.url}/rain"), f"tools-{reference()}"
        detail = chat(api, f"{{{{ {tool['name']}( ) }}}}", project=project).json()["detail"]
        assert (detail["code"], detail["origin"]) == (answered, "127.0.0.1")
        assert tool["name"] in detail["message"]
        assert openai.requests == []
        registered = ok(api.post("/model-configs", json={"model": "m", "endpoint": "chat", "project": project}))
        (log,) = ok(api.get("/logs", params={"project_id": registered["project_id"]}))["records"]
        assert log["error"] == detail["message"]

    def test_a_template_calls_tools_a_hundred_times_at_most(self, api: httpx.Client, openai: FakeOpenAI) -> None:
        name = create_snippet_tool(api)["name"]
        calls = [f'{{{{ {name}("helpful"{" " * number}) }}}}' for number in range(101)]
        ok(chat(api, " ".join(calls[:100])))
        assert chat(api, " ".join(calls)).status_code == 422
        assert len(openai.requests) == 1

    def test_a_json_schema_tool_cannot_be_called_in_a_template(self, api: httpx.Client) -> None:
        tool = schema(api)
        tried = api.post(console_url(api, f"/tools/{tool['id']}/run"), json={"arguments": ["Oslo"]})
        for refused in (tried, chat(api, f'{{{{ {tool["name"]}("Oslo") }}}}')):
            assert refused.status_code == 422
            assert "link it" in refused.json()["detail"]["message"]

    def test_a_deleted_tool_is_refused_in_the_next_call(self, api: httpx.Client) -> None:
        tool = create_snippet_tool(api)
        template = f'{{{{ {tool["name"]}("helpful") }}}}'
        ok(chat(api, template))
        assert api.delete(console_url(api, f"/tools/{tool['id']}")).status_code == 204
        refused = chat(api, template)
        assert refused.status_code == 422
        assert repr(tool["name"]) in refused.json()["detail"]["message"]

    def test_save_false_stores_no_tool_results(self, api: httpx.Client) -> None:
        tool = create_snippet_tool(api)
        data = ok(chat(api, f'{{{{ {tool["name"]}("helpful") }}}}', save=False))["data"]
        assert data[0]["tool_results"] != []
        assert ok(api.get(f"/logs/{data[0]['id']}"))["tools"] == []


class TestLinks:
    def test_a_linked_tool_is_sent_as_it_is_at_the_time_of_the_call(
        self, api: httpx.Client, openai: FakeOpenAI
    ) -> None:
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
        ok(api.patch(console_url(api, f"/tools/{tool['id']}"), json={"name": name, "settings": {"description": "New"}}))
        second = ok(linked_chat(api, project, link(tool), inline))["data"][0]
        function = openai.last.body["tools"][0]["function"]
        assert (function["name"], function["description"]) == (name, "New")
        assert first["model_config_id"] == second["model_config_id"]

    def test_configs_show_the_tools_they_link_to(self, api: httpx.Client) -> None:
        tool, project = schema(api), f"tools-{reference()}"
        body = {"model": "gpt-4", "endpoint": "chat", "project": project, "tools": [link(tool)]}
        config = ok(api.post("/model-configs", json=body))["config"]
        shown = {"id": tool["id"], "name": tool["name"], "description": "Tells the weather", "parameters": PARAMETERS}
        assert without_nulls(config["tools"]) == [shown | {"source": "organization"}]
        log = ok(linked_chat(api, project, link(tool)))["data"][0]
        ok(api.patch(console_url(api, f"/tools/{tool['id']}"), json={"settings": {"description": "New"}}))
        shown = shown | {"description": "New", "source": "organization"}
        assert without_nulls(ok(api.get(f"/model-configs/{config['id']}"))["tools"]) == [shown]
        assert without_nulls(ok(api.get(f"/logs/{log['id']}"))["config"]["tools"]) == [shown]
        project_id = ok(api.get(f"/logs/{log['id']}"))["project_id"]
        assert without_nulls(ok(api.get(f"/projects/{project_id}/active-config"))["config"]["tools"]) == [shown]
        assert without_nulls(ok(api.get(f"/projects/{project_id}/configs"))[-1]["config"]["tools"]) == [shown]
        assert without_nulls(ok(api.get(f"/projects/{project_id}"))["active_config"]["config"]["tools"]) == [shown]
        assert api.delete(console_url(api, f"/tools/{tool['id']}")).status_code == 204
        assert ok(api.get(f"/model-configs/{config['id']}"))["tools"][0]["id"] == tool["id"]

    def test_a_link_to_a_deleted_tool_is_refused_by_its_id(self, api: httpx.Client, openai: FakeOpenAI) -> None:
        tool, project = schema(api), f"tools-{reference()}"
        ok(linked_chat(api, project, link(tool)))
        openai.clear()
        assert api.delete(console_url(api, f"/tools/{tool['id']}")).status_code == 204
        refused = linked_chat(api, project, link(tool))
        assert refused.status_code == 422
        assert tool["id"] in refused.json()["detail"]["message"]
        assert openai.requests == []

    def test_a_link_to_a_tool_of_another_kind_is_refused_by_its_name(self, api: httpx.Client) -> None:
        tool = create_snippet_tool(api)
        refused = linked_chat(api, f"tools-{reference()}", link(tool))
        assert refused.status_code == 422
        assert tool["name"] in refused.json()["detail"]["message"]
        assert "snippet" in refused.json()["detail"]["message"]
