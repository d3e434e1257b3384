"""Every operation of the API, with a request that names objects of another organisation wherever it can.

In paths, queries and bodies `{project}`, `{config}` and so on stand for that organisation's objects (`Objects`), and
`{new}` for a name that nobody has.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from services.gateway.main import create_app
from services.gateway.routes import OPEN_PATHS
from services.gateway.settings import Settings
from tests.calls import ok, reference

_MESSAGES = [{"role": "user", "content": "x"}]
_MOCK = {"provider": "mock", "model": "mock"}


class Request(NamedTuple):
    """A request, and the status it is answered with if the caller may send it."""

    status: int
    body: Any = None
    query: dict[str, str] | None = None
    path: str | None = None
    """Where the objects of `_PARAMETERS` do not fit."""


_SNIPPET = {"kind": "snippet", "pairs": [{"key": "k", "value": "v"}]}
REQUESTS: dict[str, Request] = {
    "POST /v4/chat": Request(404, {"project_id": "{project}", "model_config": _MOCK, "messages": _MESSAGES}),
    "POST /v4/chat-deployed": Request(404, {"project_id": "{project}", "messages": _MESSAGES}),
    "POST /v4/chat-model-config": Request(
        404, {"project": "{new}", "model_config_id": "{config}", "messages": _MESSAGES}
    ),
    "POST /v4/completion": Request(
        404, {"project_id": "{project}", "model_config": _MOCK | {"prompt_template": "x"}, "inputs": {}}
    ),
    "POST /v4/completion-deployed": Request(404, {"project_id": "{project}", "inputs": {}}),
    "POST /v4/completion-model-config": Request(404, {"project": "{new}", "model_config_id": "{config}", "inputs": {}}),
    "POST /v4/logs": Request(404, {"project_id": "{project}", "config": _MOCK, "inputs": {}, "output": "x"}),
    "GET /v4/logs": Request(404, query={"project_id": "{project}"}),
    "DELETE /v4/logs": Request(204, query={"id": "{log}"}),
    "PATCH /v4/logs": Request(404, {"output": "theirs"}, {"reference_id": "{reference}"}),
    "GET /v4/logs/{id}": Request(404),
    "PATCH /v4/logs/{id}": Request(404, {"output": "theirs"}),
    "POST /v4/projects/{id}/export": Request(404),
    "POST /v4/feedback": Request(404, {"data_id": "{log}", "type": "rating", "value": "bad"}),
    "GET /v4/sessions": Request(404, query={"project_id": "{project}"}),
    "POST /v4/sessions": Request(201),
    "GET /v4/sessions/{id}": Request(404),
    "POST /v4/model-configs": Request(404, _MOCK | {"project_id": "{project}"}),
    "GET /v4/model-configs/{id}": Request(404),
    "POST /v4/model-configs/{id}/export": Request(404),
    "POST /v4/model-configs/serialize": Request(200, _MOCK | {"endpoint": "chat"}),
    "POST /v4/model-configs/deserialize": Request(200, {"config": "---\nmodel: m\n---\n"}),
    "GET /v4/projects": Request(200),
    "POST /v4/projects": Request(201, {"name": "{new}"}),
    "GET /v4/projects/{id}": Request(404),
    "PATCH /v4/projects/{id}": Request(404, {"name": "{new}"}),
    "DELETE /v4/projects/{id}": Request(404),
    "GET /v4/projects/{id}/configs": Request(404),
    "GET /v4/projects/{id}/active-config": Request(404),
    "DELETE /v4/projects/{id}/active-config": Request(404),
    "POST /v4/projects/{id}/feedback-types": Request(404, {"type": "mood", "class": "text"}),
    "PATCH /v4/projects/{id}/feedback-types": Request(404, [{"type": "mood", "class": "text"}]),
    "GET /v4/projects/{id}/deployed-configs": Request(404),
    "PATCH /v4/projects/{project_id}/deploy-config": Request(404, {"config_id": "{config}"}),
    "DELETE /v4/projects/{project_id}/deployed-config/{environment_id}": Request(404),
    "GET /api/sessions/{id}/tree": Request(404),
    "GET /api/projects/{id}/deployments": Request(404),
    "GET /api/environments": Request(200),
    "POST /api/environments": Request(201, {"name": "{new}"}),
    "PATCH /api/environments/{id}": Request(404, {"name": "{new}"}),
    "DELETE /api/environments/{id}": Request(404),
    "GET /api/models": Request(200),
    "GET /api/tools": Request(200),
    "POST /api/tools": Request(201, {"name": "a-{new}", "settings": _SNIPPET}),
    "GET /api/tools/{id}": Request(404),
    "PATCH /api/tools/{id}": Request(404, {"name": "a-{new}"}),
    "DELETE /api/tools/{id}": Request(404),
    "POST /api/tools/{id}/run": Request(404, {}),
    "GET /api/redirects": Request(200),
    "PUT /api/redirects": Request(200, {"asked": _MOCK, "fallbacks": [{"provider": "mock", "model": "b"}]}),
    "DELETE /api/redirects": Request(404, query={"provider": "mock", "model": "{model}"}),
    "GET /api/provider-keys": Request(200),
    "PUT /api/provider-keys/{name}": Request(200, {"key": "sk-of-nobody"}, path="/api/provider-keys/groq"),
    "DELETE /api/provider-keys/{name}": Request(404),
    "GET /api/me": Request(200),
    "PATCH /api/me": Request(403, {"full_name": "{new}"}),
    "POST /api/auth/password": Request(403, {"current_password": "x", "new_password": "{new}"}),
    "POST /api/auth/organization": Request(403, {"organization_id": "{organization}"}),
    "POST /api/auth/logout-everywhere": Request(403),
    "GET /api/auth/sessions": Request(403),
    "DELETE /api/auth/sessions/{id}": Request(403, path="/api/auth/sessions/ses_0000000000000000000aa"),
    "GET /api/organization": Request(200),
    "PATCH /api/organization": Request(200, {"name": "{new}"}),
    "POST /api/organizations": Request(201, {"name": "{new}"}),
    "GET /api/invites": Request(200),
    "POST /api/invites": Request(201, {"email": "{new}@example.org"}),
    "POST /api/invites/{id}/resend": Request(404),
    "DELETE /api/invites/{id}": Request(404),
    "GET /api/members": Request(200),
    "PATCH /api/members/{id}": Request(404, {"role": "Member"}),
    "DELETE /api/members/{id}": Request(404),
    "GET /api/keys": Request(200),
    "POST /api/keys": Request(201, {"name": "{new}"}),
    "DELETE /api/keys/{id}": Request(404),
    "GET /api/usage": Request(404, query={"project_id": "{project}"}),
    "GET /api/budgets": Request(200),
    "PUT /api/budgets/organization": Request(422, {"amount": -1}),
    "PUT /api/budgets/projects/{id}": Request(404, {"amount": 1}),
    "PUT /api/budgets/keys/{id}": Request(404, {"amount": 1}),
    "DELETE /api/budgets/organization": Request(404),
    "DELETE /api/budgets/projects/{id}": Request(404),
    "DELETE /api/budgets/keys/{id}": Request(404),
    "GET /api/audit-log": Request(200),
    "GET /api/audit-log/export": Request(200),
}
"""By method and path as the OpenAPI document has them."""
_PARAMETERS = {
    "logs": "{log}",
    "projects": "{project}",
    "sessions": "{session}",
    "model-configs": "{config}",
    "environments": "{environment}",
    "tools": "{tool}",
    "members": "{member}",
    "keys": "{key}",
    "invites": "{invite}",
    "provider-keys": "mistral",
    "deployed-config": "{environment}",
}
"""What stands for a parameter of a path, by the part of the path before it."""


@dataclass
class Objects:
    """The objects of an organisation, each of which an operation can name."""

    names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def made_by(cls, admin: httpx.Client) -> "Objects":
        """Make one object of each kind as this Admin; paths of the client begin with `/v4` or `/api`."""
        name = reference()
        chat = {"project": name, "model_config": _MOCK, "messages": _MESSAGES, "session_reference_id": f"s-{name}"}
        generated = ok(admin.post("/v4/chat", json=chat))
        logged = {"project": name, "config": {"type": "tool", "name": "t", "source_code": ""}, "inputs": {}}
        ok(admin.post("/v4/logs", json=logged | {"reference_id": f"r-{name}", "output": "ours"}))
        tool = ok(admin.post("/api/tools", json={"name": f"a-{name}", "settings": _SNIPPET}), 201)
        redirect = {"asked": {"provider": "mock", "model": name}, "fallbacks": [{"provider": "mock", "model": "b"}]}
        ok(admin.put("/api/redirects", json=redirect))
        ok(admin.put("/api/provider-keys/mistral", json={"key": "sk-of-ours"}))
        return cls(
            {
                "project": generated["project_id"],
                "config": generated["data"][0]["model_config_id"],
                "log": generated["data"][0]["id"],
                "session": generated["session_id"],
                "reference": f"r-{name}",
                "environment": ok(admin.post("/api/environments", json={"name": name}), 201)["id"],
                "tool": tool["id"],
                "member": ok(admin.get("/api/me"))["user_id"],
                "organization": ok(admin.get("/api/me"))["organization_id"],
                "invite": ok(admin.post("/api/invites", json={"email": f"{name}@example.org"}), 201)["id"],
                "key": ok(admin.post("/api/keys", json={"name": name}), 201)["id"],
                "model": name,
            }
        )

    def send(self, client: httpx.Client, operation: str) -> httpx.Response:
        """Send the request of an operation, which names these objects."""
        method, _, path = operation.partition(" ")
        request, names = REQUESTS[operation], self.names | {"new": reference()}
        filled = _fill(request.path or _with_parameters(path), names)
        query = _fill(request.query, names)
        return client.request(method, filled, json=_fill(request.body, names), params=query)


def _with_parameters(path: str) -> str:
    parts = path.split("/")
    return "/".join(_PARAMETERS[parts[at - 1]] if part.startswith("{") else part for at, part in enumerate(parts))


def _fill(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name, one in names.items():
            value = value.replace(f"{{{name}}}", one)
        return value
    if isinstance(value, dict):
        return {key: _fill(one, names) for key, one in value.items()}
    return [_fill(one, names) for one in value] if isinstance(value, list) else value


def operations() -> list[str]:
    """Return every operation of the OpenAPI document that needs a key, as method and path."""
    paths = create_app(Settings(secret="x" * 44)).openapi()["paths"]
    return [f"{method.upper()} {path}" for path in paths if path not in OPEN_PATHS for method in paths[path]]
