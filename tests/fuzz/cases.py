"""Changes generated cases before they are sent: they stay on this machine, and name things that exist as often as not."""

import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from schemathesis import Case, HookContext
from schemathesis.hooks import GLOBAL_HOOK_DISPATCHER

NOWHERE = "http://127.0.0.1:9"
"""Nothing listens on the port (discard), so a call ends at once."""
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}
_ID = re.compile(r"[a-z]+_[A-Za-z0-9]{21}")
"""What looks like this was taken from an answer."""
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
}
"""The kind of the thing that a field or a parameter names, by its name."""
_SEGMENTS = {
    "projects": "project",
    "logs": "log",
    "sessions": "session",
    "model-configs": "config",
    "environments": "environment",
    "tools": "tool",
}
"""The same of a path's `{id}`, by the part of the path before it."""
_PARAMETER = re.compile(r"/([^/]+)/\{id\}")
Names = Mapping[str, str]
"""By kind, what names a thing that exists."""


@contextmanager
def changed_cases(names: Names, protected_ids: frozenset[str]) -> Iterator[None]:
    """Change every case before it is sent, while the context lasts; no case changes or deletes what is protected."""

    def before_call(_context: HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
        body = stay_here(fill(case.body, names))
        if body != case.body:
            case.body = body
        for name, value in fill(case.query, names).items():
            if case.query[name] != value:
                case.query[name] = value
        safe = case.method.upper() in _SAFE_METHODS
        found = _PARAMETER.search(case.path)
        kinds = _FIELDS | ({"id": _SEGMENTS.get(found[1], "")} if found else {})
        for name, value in list(case.path_parameters.items()):
            if value in protected_ids and not safe:
                case.path_parameters[name] = "none"
            elif case.method.upper() != "DELETE":
                case.path_parameters[name] = _existing(kinds.get(name), value, names)

    GLOBAL_HOOK_DISPATCHER.register_hook_with_name(before_call, "before_call")
    try:
        yield
    finally:
        GLOBAL_HOOK_DISPATCHER.unregister(before_call)


def fill(value: Any, names: Names) -> Any:
    """Return `value` with what exists in about every second field that names something, but for ids of answers."""
    if isinstance(value, dict):
        return {
            name: _existing(_FIELDS.get(name), one, names) if isinstance(one, str) else fill(one, names)
            for name, one in value.items()
        }
    return [fill(one, names) for one in value] if isinstance(value, list) else value


def _existing(kind: str | None, value: Any, names: Names) -> Any:
    """Return what exists of a kind, or `value`: which one depends on `value` alone, so that a run can be repeated."""
    taken = isinstance(value, str) and _ID.fullmatch(value)
    return value if taken or zlib.crc32(repr(value).encode()) % 2 else names.get(kind or "", value)


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
