"""Changes generated cases before they are sent: they stay on this machine, and often name things that exist."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from schemathesis import Case, HookContext
from schemathesis.hooks import GLOBAL_HOOK_DISPATCHER

from tests.fuzz.coin import Coin
from tests.fuzz.hazards import place_hazard, place_text_hazard

NOWHERE = "http://127.0.0.1:9"
"""Nothing listens on the port (discard), so a call ends at once."""
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}
_ID = re.compile(r"[a-z]+_[A-Za-z0-9]{21}")
_FIELDS = {
    "project_id": "project",
    "config_id": "config",
    "model_config_id": "config",
    "active_config_id": "config",
    "session_id": "session",
    "parent_id": "log",
    "data_id": "log",
    "reference_id": "reference",
    "environment": "environment_name",
    "environment_id": "environment",
    "provider": "provider",
    "config": "prompt_file",
    "value": "feedback",
}
"""The kind of the thing that a field or a parameter with a text names, by its name."""
_ALTERNATIVES = {"project_id": "project", "config_id": "config", "data_id": "data_id", "value": "unset"}
"""Fields that some operations need, each with the one that may stand instead."""
_SEGMENTS = {
    "projects": "project",
    "logs": "log",
    "sessions": "session",
    "model-configs": "config",
    "environments": "environment",
    "tools": "tool",
}
"""The same of a path's `{id}`, by the part of the path before it."""
_REFERENCE = re.compile(r"#/components/schemas/(\w+)")
_PARAMETER = re.compile(r"/([^/]+)/\{id\}")
Names = Mapping[str, str]
"""By kind, what names a thing that exists."""


@contextmanager
def changed_cases(document: dict[str, Any], names: Names, protected_ids: frozenset[str]) -> Iterator[None]:
    """Change every case before it is sent, while the context lasts; no case changes or deletes what is protected."""
    needed = needed_fields(document)

    def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
        coin = Coin(repr((case.body, case.query, case.path_parameters)))
        body = add_needed(fill(case.body, names, coin), needed[case.operation.label], names, coin)
        if isinstance(body, dict | list) and coin.pick(4) == 0:
            body = place_hazard(body, coin)
        body = stay_here(body)
        if body != case.body:
            case.body = body
        query = fill(case.query, names, coin)
        if query and coin.pick(4) == 0:
            query = place_text_hazard(query, coin)
        case.query.update({name: value for name, value in query.items() if value != case.query[name]})
        _change_path(case, names, protected_ids, coin)

    GLOBAL_HOOK_DISPATCHER.register_hook_with_name(before_call, "before_call")
    try:
        yield
    finally:
        GLOBAL_HOOK_DISPATCHER.unregister(before_call)


def _change_path(case: Case[Any], names: Names, protected_ids: frozenset[str], coin: Coin) -> None:
    method, found = case.method.upper(), _PARAMETER.search(case.path)
    kinds = _FIELDS | ({"id": _SEGMENTS.get(found[1], "")} if found else {})
    for name, value in list(case.path_parameters.items()):
        if value in protected_ids and method not in _SAFE_METHODS:
            case.path_parameters[name] = "none"
        elif method != "DELETE" or not case.path.endswith("}"):
            case.path_parameters[name] = _existing(kinds.get(name), value, names, coin)


def fill(value: Any, names: Names, coin: Coin) -> Any:
    """Return `value` with what exists in about every second field that names something, but for ids of answers."""
    if isinstance(value, dict):
        return {
            name: _existing(_FIELDS.get(name), one, names, coin) if isinstance(one, str) else fill(one, names, coin)
            for name, one in value.items()
        }
    return [fill(one, names, coin) for one in value] if isinstance(value, list) else value


def _existing(kind: str | None, value: Any, names: Names, coin: Coin) -> Any:
    existing = names.get(kind or "")
    if existing is None or not isinstance(value, str) or _has_prefix_of(existing, value):
        return value
    return existing if coin.toss() else value


def _has_prefix_of(existing: str, value: str) -> bool:
    """Whether `value` is an id of the same kind, which can only be from an answer."""
    return _ID.fullmatch(value) is not None and value.partition("_")[0] == existing.partition("_")[0]


def needed_fields(document: dict[str, Any]) -> dict[str, list[str]]:
    """Return, by operation, the fields of its body that name something and that it needs though no schema says so."""
    schemas = document["components"]["schemas"]

    def fields(operation: dict[str, Any]) -> list[str]:
        names = _REFERENCE.findall(json.dumps(operation.get("requestBody")))
        return [field for field in _ALTERNATIVES if any(field in schemas[name].get("properties", ()) for name in names)]

    paths = document["paths"].items()
    return {f"{method.upper()} {path}": fields(one) for path, item in paths for method, one in item.items()}


def add_needed(body: Any, fields: list[str], names: Names, coin: Coin) -> Any:
    """Return a body with each of these fields, as often as not, where neither it nor its alternative is there."""
    if isinstance(body, list):
        return [add_needed(one, fields, names, coin) for one in body]
    if not isinstance(body, dict):
        return body
    missing = [field for field in fields if not (body.get(field) or body.get(_ALTERNATIVES[field])) and coin.toss()]
    return body | {field: names[_FIELDS[field]] for field in missing}


def stay_here(value: Any) -> Any:
    """Return `value` with `NOWHERE` for each web address in it that is not of this machine, and each `host`."""
    if isinstance(value, dict):
        return {name: NOWHERE if _is_host(name, one) else stay_here(one) for name, one in value.items()}
    if isinstance(value, list):
        return [stay_here(one) for one in value]
    return NOWHERE if isinstance(value, str) and _is_elsewhere(value) else value


def _is_host(name: str, value: Any) -> bool:
    return name in {"host", "openai_azure_endpoint"} and isinstance(value, str)


def _is_elsewhere(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme.lower() in {"http", "https"} and parts.hostname not in {None, "127.0.0.1", "::1"}
    except ValueError:  # it begins like an address and is none
        return False
