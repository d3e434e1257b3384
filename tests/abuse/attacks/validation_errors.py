"""Bodies in which nearly everything is wrong."""

import json
from collections.abc import Mapping
from typing import Any

import httpx

from tests.abuse.attacks.bodies import send_all
from tests.abuse.attacks.target import Target

_CHAT: dict[str, Any] = {"project": "p", "model_config": {"model": "m"}, "messages": []}
_LOG: dict[str, Any] = {"project": "p", "config": {"type": "tool", "name": "t"}}


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


def wrong_bodies() -> Mapping[str, list[bytes]]:
    """Return bodies with very many errors, by path."""
    many: list[Any] = [{}] * 30_000
    part = [{"role": "user", "content": many}]
    return {
        "/logs": [
            b"[" + b"{}," * 500_000 + b"{}]",
            _text(many),
            _text([_LOG] * 10_000),
            _text(_LOG | {"messages": many}),
            _text(_LOG | {"messages": part}),
            _text(_LOG | {"messages": [{"role": "tool"}] * 30_000}),
            _text(_LOG | {"judgment": [1] * 300_000}),
            _text(_LOG | {"feedback": many}),
            _text(_LOG | {"config": {"model": "m"} | {f"x{number}": number for number in range(100_000)}}),
            _text(_LOG | {"config": {"model": "m", "y" * 2_000_000: 1}}),
            _text(_LOG | {"config": {"model": "m", "stop": [1] * 300_000, "tools": many}}),
        ],
        "/feedback": [_text(many), _text([{"type": "rating", "value": "good"}] * 30_000)],
        "/chat": [
            _text(_CHAT | {"messages": many}),
            _text(_CHAT | {f"x{number}": number for number in range(200_000)}),
            _text(_CHAT | {"z" * 3_000_000: 1}),
            _text(_CHAT | {"provider_api_keys": {f"Key {number}": number for number in range(100_000)}}),
            _text(_CHAT | {"model_config": {"model": "m", "chat_template": part}}),
        ],
        "/model-configs": [_text({"project": "p", "model": "m", "tools": [{"name": 1}] * 30_000})],
        "/projects": [_text({"name": "p", "feedback_types": many})],
    }


def send_errors(target: Target) -> list[httpx.Response]:
    """Send them all, four at a time; return the answers."""
    return [answer for path, bodies in wrong_bodies().items() for answer in send_all(target, path, bodies)]
