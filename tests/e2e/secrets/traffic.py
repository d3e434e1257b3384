"""Requests with a secret in every field that can carry one: right ones, and ones that are refused in every way."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any

import httpx

from services.generation.providers.registry import PROVIDER_SPECS
from tests.calls import Json, ok, reference
from tests.e2e.secrets.canaries import Canaries
from tests.fake_servers.mail import MailServer
from tests.fake_servers.server import FakeServer
from tests.fake_servers.web import FakeWebServer, WebRequest, WebResponse
from tests.organisations import add_organisation
from tests.people import Browsers
from tests.stack import EVERLOOP, Stack

_MODELS = {"openai": "gpt-4o", "mock": "mock", "replicate": "meta/meta-llama-3-8b-instruct"}


class Traffic:
    """Sends the requests, and keeps the answers to them."""

    def __init__(self, stack: Stack, canaries: Canaries) -> None:
        self.stack = stack
        self.canaries = canaries
        self.answers: list[tuple[str, bytes, str]] = []
        """Of each request its name, the whole answer, and the name of the secret that it is there to tell."""
        self.statuses: set[int] = set()
        admin = add_organisation(stack)
        self.canaries.learn("API key", admin)
        self.api = httpx.Client(base_url=stack.base_url, headers={"X-API-KEY": admin}, timeout=30)

    def send(
        self, name: str, method: str, path: str, *, by: httpx.Client | None = None, tells: str = "", **request: Any
    ) -> httpx.Response:
        """Send a request; `tells` names the secret that its answer is to hold."""
        answer = (by or self.api).request(method, path, **request)
        headers = repr([pair for pair in answer.headers.multi_items() if pair[0] != "set-cookie"]).encode()
        self.answers.append((f"answer to {name}", headers + answer.content, tells))
        self.statuses.add(answer.status_code)
        return answer

    def api_keys(self) -> None:
        """A key that is made and revoked, wrong ones, and keys where none belongs."""
        made = ok(self.send("new key", "POST", "/api/keys", json={"name": reference()}, tells="made key"), 201)
        self.canaries.learn("made key", made["api_key"])
        with httpx.Client(base_url=self.stack.base_url, headers={"X-API-KEY": made["api_key"]}) as other:
            self.send("a call with a made key", "GET", "/v4/projects", by=other)
            self.send("revoking a key", "DELETE", f"/api/keys/{made['id']}")
            self.send("a call with a revoked key", "GET", "/v4/projects", by=other)
        wrong = self.canaries.new("wrong API key")
        with httpx.Client(base_url=self.stack.base_url) as nobody:
            for header in ("X-API-KEY", "Authorization", "X-Api-Token", "Cookie", "User-Agent", "Traceparent"):
                self.send(f"a key in {header}", "GET", "/v4/projects", by=nobody, headers={header: wrong})
            self.send("basic", "GET", "/api/me", by=nobody, auth=("user", wrong))
        for header in ("Authorization", "X-Forwarded-For", "Idempotency-Key", "Tracestate", "Baggage", "Referer"):
            sent = self.canaries.new(f"key in {header}")
            self.send(f"a key in {header} beside one", "GET", "/v4/projects", headers={header: sent})
        self.send("a key in a path", "GET", "/v4/logs/data_x", params={"api_key": self.canaries.new("key in a query")})

    def provider_keys(self, upstream: FakeServer) -> None:
        """Keys of every provider in bodies that are taken, refused, cut, too large, and repeated in errors."""
        for provider in PROVIDER_SPECS:
            key = self.canaries.new(f"provider key of {provider}")
            config = {"provider": provider, "model": _MODELS.get(provider, "a-model"), "prompt_template": "x"}
            body: Json = {"project": "canary", "provider_api_keys": {provider: key}, "inputs": {}}
            chat = body | {
                "model_config": config | {"chat_template": []},
                "messages": [{"role": "user", "content": "x"}],
            }
            chat["model_config"].pop("prompt_template")
            for stream in (False, True):
                for _ in range(4):
                    message = f"Incorrect API key provided: {key}. Authorization: Bearer {key}"
                    upstream.reply(status=401, error={"message": message, "code": key, "type": key})
                self.send(f"a chat of {provider}", "POST", "/v4/chat", json=chat | {"stream": stream})
                upstream.clear()
            self.send(f"a completion of {provider}", "POST", "/v4/completion", json=body | {"model_config": config})
            upstream.clear()
        for status in (400, 404, 429, 500, 503):
            key = self.canaries.new(f"key that a provider repeats with {status}")
            for _ in range(4):
                upstream.reply(status=status, error={"message": f'"{key}" {json.dumps({"a": key})}', "param": key})
            self.send(f"a provider's {status}", "POST", "/v4/chat", json=_chat(provider_api_keys={"openai": key}))
            upstream.clear()
        self.send(
            "an unsaved chat",
            "POST",
            "/v4/chat",
            json=_chat(save=False, provider_api_keys={"openai": self._new("unsaved")}),
        )

    def misplaced_provider_keys(self) -> None:
        """`provider_api_keys` where none belong, and in bodies that are refused."""

        def keys(where: str) -> Json:
            return {"provider_api_keys": {"openai": self._new(where)}}

        nested = {"model_config": {"provider": "mock", "model": "mock", **keys("model_config")}, "messages": []}
        for name, body in {
            "in inputs": _chat(inputs={"a": keys("inputs")}),
            "in metadata": _chat(metadata={"a": [keys("metadata")]}),
            "in the config": _chat(**nested),
            "in a message": _chat(messages=[{"role": "user", "content": "x", **keys("a message")}]),
            "with a wrong field": _chat(num_samples="x", **keys("a body with a wrong field")),
            "with an unknown provider": _chat(provider_api_keys={"nobody": self._new("an unknown provider")}),
            "as text": _chat(provider_api_keys=self._new("provider_api_keys as text")),
            "as a list": _chat(provider_api_keys=[self._new("provider_api_keys as a list")]),
            "as an object": _chat(provider_api_keys={"openai": {"key": self._new("an object")}}),
            "not ASCII": _chat(provider_api_keys={"openai": self._new("a key with more") + "\n\u00e9"}),
        }.items():
            self.send(f"provider_api_keys {name}", "POST", "/v4/chat", json=body)
        log = {"project": "canary", "config": {"provider": "mock", "model": "m"}, "inputs": {}, "output": "x"}
        self.send("a log with keys", "POST", "/v4/logs", json=log | keys("a log"))
        self.send("a wrong log with keys", "POST", "/v4/logs", json={"inputs": 5} | keys("a wrong log"))
        self.send(
            "a config with keys", "POST", "/v4/model-configs", json={"model": "m", "project": "c"} | keys("config")
        )
        cut = f'{{"provider_api_keys": {{"openai": "{self._new("a cut body")}"}}, '
        self.send("a cut body", "POST", "/v4/chat", headers={"Content-Type": "application/json"}, content=cut)
        as_text = json.dumps(_chat(**keys("a body of another type")))
        self.send("a body of another type", "POST", "/v4/chat", headers={"Content-Type": "text/plain"}, content=as_text)
        doubled = '{"project": "c", "provider_api_keys": {"openai": "%s"}, "provider_api_keys": {"openai": "%s"}}'
        twice = doubled % (self._new("the first of two"), self._new("the second of two"))
        self.send("two of them", "POST", "/v4/chat", headers={"Content-Type": "application/json"}, content=twice)
        for path in ("/v4/sessions", "/v4/projects", "/v4/feedback", "/v4/nowhere", "/api/keys", "/api/environments"):
            self.send(f"keys at {path}", "POST", path, json={"name": reference()} | keys(f"a body of {path}"))
        with httpx.Client(base_url=self.stack.base_url) as nobody:
            self.send("keys of nobody", "POST", "/v4/chat", by=nobody, json=_chat(**keys("a body without a key")))

    def stored_secrets(self, web: FakeWebServer) -> None:
        """Stored provider keys, and secrets of tools, that are used, refused and repeated in errors."""
        for name in ("openai", "anthropic", "nobody"):
            key = self._new(f"stored key of {name}")
            self.send(f"storing a key of {name}", "PUT", f"/api/provider-keys/{name}", json={"key": key})
        self.send(
            "a key as an object", "PUT", "/api/provider-keys/groq", json={"key": {"a": self._new("stored object")}}
        )
        self.send("a key and more", "PUT", "/api/provider-keys/groq", json={"key": "x", "k": self._new("stored more")})
        self.send(
            "a key in a path", "PUT", f"/api/provider-keys/{self._new('a path')}", json={"key": "k"}, tells="a path"
        )
        self.send("a chat with a stored key", "POST", "/v4/chat", json=_chat())
        self.send("the stored keys", "GET", "/api/provider-keys")

        def repeat(request: WebRequest) -> WebResponse:
            return WebResponse(request.headers["x-api-key"].encode(), 401)

        web.responses["/echo"] = repeat
        settings: Json = {"kind": "get_api", "url": f"{web.url}/echo"}
        tool: Json = {"name": f"t-{reference()}", "settings": settings, "secrets": {"key": self._new("tool secret")}}
        made = ok(self.send("a tool", "POST", "/api/tools", json=tool), 201)
        self.send("running a tool", "POST", f"/api/tools/{made['id']}/run", json={})
        template = [{"role": "user", "content": f"{{{{ {tool['name']}() }}}}"}]
        config = {"provider": "mock", "model": "mock", "chat_template": template}
        self.send("a chat with a tool", "POST", "/v4/chat", json=_chat(model_config=config))
        changed = {"secrets": {"key": self._new("changed tool secret")}}
        self.send("changing a tool", "PATCH", f"/api/tools/{made['id']}", json=changed)
        for name, wrong in {
            "the tool's name again": tool | {"secrets": {"key": self._new("tool of the same name")}},
            "an unknown secret": tool | {"secrets": {"password": self._new("unknown tool secret")}},
            "a secret of two lines": tool | {"secrets": {"key": self._new("two lines") + "\r\nX: y"}},
            "a password in the address": tool | {"settings": settings | {"url": f"http://u:{self._new('url')}@h.org/"}},
            "an unknown setting": tool | {"settings": settings | {"headers": {"X": self._new("tool header")}}},
        }.items():
            self.send(f"a tool with {name}", "POST", "/api/tools", json=wrong)

    def passwords(self, browsers: Browsers, mail: MailServer, data: Mapping[str, str]) -> None:
        """Sign-in, change, reset, invites and set-up; `data` is the environment of the command line."""
        email, joining = f"{reference()}@example.org", browsers.open()
        invite = {"email": email, "role": "Member"}
        new = ok(self.send("an invite", "POST", "/api/invites", json=invite, tells="invite token"), 201)
        self.canaries.learn("invite token", new["link"].partition("#")[2])
        again = ok(self.send("it again", "POST", f"/api/invites/{new['id']}/resend", tells="resent token"))
        token = self.canaries.learn("resent token", again["link"].partition("#")[2])
        mail.wait_for(email, 2)
        accept = {"token": token, "password": self._new("password of an invite")}
        for name, wrong in {
            "a weak password": accept | {"password": "short"},
            "a wrong token": accept | {"token": self._new("wrong token")},
            "a token that is an object": accept | {"token": {"a": self._new("token as an object")}},
            "a long token": accept | {"token": self._new("long token") * 20},
            "one field more": accept | {"secret": self._new("a field more")},
        }.items():
            self.send(f"an invite with {name}", "POST", "/api/invites/accept", by=joining, json=wrong)
        self.send("a preview", "POST", "/api/invites/preview", by=joining, json={"token": token})
        accepted = self.send(
            "accepting", "POST", "/api/invites/accept", by=joining, json=accept, tells="CSRF token of accept"
        )
        joining.keep(ok(accepted))
        self.canaries.learn("session of accept", joining.cookies["everloop_session"])
        self.canaries.learn("CSRF token of accept", ok(accepted)["csrf_token"])
        change = {"current_password": self._new("wrong current"), "new_password": self._new("new of a wrong change")}
        self.send("a wrong change", "POST", "/api/auth/password", by=joining, json=change)
        self.send(
            "a change without token",
            "POST",
            "/api/auth/password",
            by=joining,
            json=change,
            headers={"X-CSRF-Token": self._new("wrong CSRF token")},
        )
        change = {"current_password": accept["password"], "new_password": self._new("changed password")}
        changed = self.send(
            "a change", "POST", "/api/auth/password", by=joining, json=change, tells="CSRF token of change"
        )
        joining.keep(ok(changed))
        self.canaries.learn("CSRF token of change", ok(changed)["csrf_token"])
        self.canaries.learn("session of change", joining.cookies["everloop_session"])
        self.sign_in(browsers, email, change["new_password"])
        self.send("asking for a reset", "POST", "/api/auth/password-reset", by=browsers.open(), json={"email": email})
        link = mail.wait_for(email, 3).get_content()
        reset = self.canaries.learn("reset token", link.split("#")[1].split()[0])
        for name, new_password in (
            ("weak", "short"),
            ("good", self._new("reset password")),
            ("late", self._new("late")),
        ):
            body = {"token": reset, "new_password": new_password}
            self.send(f"a {name} reset", "POST", "/api/auth/password-reset/confirm", by=browsers.open(), json=body)
        setup: Json = {"organization_name": "x", "email": "a@b.org", "password": self._new("set-up password")}
        for token in (self._new("wrong set-up token"), self.canaries.values["EVERLOOP_SETUP_TOKEN"], "x" * 300):
            self.send("set-up", "POST", "/api/setup", by=browsers.open(), json=setup | {"token": token})
        self.command_line(data)

    def sign_in(self, browsers: Browsers, email: str, password: str) -> None:
        """Right, wrong, malformed, too large, too often."""
        browser = browsers.open()
        requests: dict[str, Json] = {
            "wrong": {"json": {"email": email, "password": self._new("wrong password")}},
            "as an object": {"json": {"email": email, "password": {"a": self._new("password as an object")}}},
            "as a name": {"json": {"email": email, self._new("password as a field"): "x"}},
            "long": {"json": {"email": email, "password": self._new("long password") * 40}},
            "huge": {"json": {"email": email, "password": self._new("huge password") * 900}},
            "cut": {"content": b'{"password": "%s", ' % self._new("cut password").encode()},
            "as a form": {"data": {"email": email, "password": self._new("password in a form")}},
            "in the query": {"params": {"password": self._new("password in a query")}},
        }
        for name, request in requests.items():
            # An answer names the fields of the request that are wrong, to who has sent them.
            tells = "password as a field" if name == "as a name" else ""
            self.send(f"a sign-in, {name}", "POST", "/api/auth/login", by=browser, tells=tells, **request)
        often = self._new("password that is sent too often")
        for _ in range(11):
            body = {"email": email, "password": often}
            self.send("a sign-in, too often", "POST", "/api/auth/login", by=browser, json=body)
        right = browsers.open()
        begun = self.send(
            "a sign-in",
            "POST",
            "/api/auth/login",
            by=right,
            json={"email": email, "password": password},
            tells="CSRF token of sign-in",
        )
        self.canaries.learn("CSRF token of sign-in", ok(begun)["csrf_token"])
        self.canaries.learn("session of sign-in", right.cookies["everloop_session"])
        self.send("the sessions", "GET", "/api/auth/sessions", by=right)
        stranger = browsers.open()
        stranger.cookies.set("everloop_session", self._new("wrong session"))
        self.send("a wrong session", "GET", "/api/me", by=stranger)

    def command_line(self, environment: Mapping[str, str]) -> None:
        """`everloop user` with a password on its input: right ones and one that is refused."""
        email, organisation = f"{reference()}@example.org", ok(self.api.get("/api/me"))["organization_id"]
        add = ("add", email, "--organisation", organisation)
        for number, command in enumerate((add, ("reset-password", email), ("reset-password", "nobody@example.org"))):
            done = subprocess.run(
                [str(EVERLOOP), "user", *command, "--password-stdin", "--data", str(self.stack.folder)],
                input=self._new(f"password of the command line {number}") + "\n",
                capture_output=True,
                text=True,
                check=False,
                env=dict(environment),
            )
            assert (done.returncode == 0) is (number < 2), done.stderr
            self.answers.append((f"output of everloop user {command[0]}", (done.stdout + done.stderr).encode(), ""))

    def single_sign_on(self, browsers: Browsers, web: FakeWebServer) -> None:
        """A sign-in at a provider that repeats all it is sent in its error."""
        browser = browsers.open()
        begun = browser.get("/api/auth/oidc", follow_redirects=False)
        assert begun.status_code == 303, begun.text
        state = httpx.URL(begun.headers["location"]).params["state"]
        self.canaries.learn("cookie of a sign-in at a provider", browser.cookies["everloop_oidc"])
        self.canaries.learn("state of a sign-in at a provider", state)
        for at in (self._new("wrong state"), state):
            query = {"state": at, "code": self._new(f"code {len(self.answers)}")}
            self.send("back from the provider", "GET", "/api/auth/oidc/callback", by=browser, params=query)
        assert any(request.path == "/token" for request in web.requests)

    def lists(self) -> None:
        """What all operations that read tell the organisation, and another one."""
        paths = (
            *("/v4/projects", "/api/keys", "/api/members", "/api/invites", "/api/tools", "/api/provider-keys"),
            *("/api/audit-log", "/api/audit-log/export", "/api/me", "/api/organization", "/api/redirects"),
            *("/api/environments", "/api/usage", "/api/budgets", "/api/models", "/openapi.json", "/readyz", "/livez"),
        )
        with httpx.Client(base_url=self.stack.base_url, headers={"X-API-KEY": self.stack.api_key}) as other:
            for path in paths:
                for by in (self.api, other):
                    self.send(f"{path}", "GET", path, by=by)
        for project in ok(self.api.get("/v4/projects", params={"size": 100}))["records"]:
            query = {"project_id": project["id"], "size": 100}
            self.send("the logs", "GET", "/v4/logs", params=query)
            self.send("the sessions", "GET", "/v4/sessions", params=query)
            self.send("the configs", "GET", f"/v4/projects/{project['id']}/configs")

    def _new(self, name: str) -> str:
        return self.canaries.new(name)


def _chat(**fields: Any) -> Json:
    config = {"provider": "openai", "model": "gpt-4o"}
    return {"project": "canary", "model_config": config, "messages": [{"role": "user", "content": "x"}]} | fields
