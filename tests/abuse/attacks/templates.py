"""Requests of a few hundred kilobytes that stand for gigabytes, or for time that grows with their square."""

from typing import Any, NamedTuple

from tests.abuse.attacks.target import Target
from tests.calls import Json

_MOCK = {"provider": "mock", "model": "mock"}
_MANY = ["abcdefg"] * 12_000
"""142 kB of JSON."""


class Attack(NamedTuple):
    """A request, and what its refusal must say; None: it is harmless, and answered with 200."""

    path: str
    body: Json
    refusal: str | None


def completion(template: str, inputs: Json, **fields: Any) -> Json:
    """Return the body of a completion."""
    return {"project": "attack", "model_config": _MOCK | {"prompt_template": template}, "inputs": inputs} | fields


def chat(template: list[Json], inputs: Json, **fields: Any) -> Json:
    """Return the body of a chat."""
    config = _MOCK | {"chat_template": template}
    return {"project": "attack by chat", "model_config": config, "inputs": inputs, "messages": []} | fields


def _message(content: str | list[Json]) -> Json:
    return {"role": "user", "content": content}


def _nested(depth: int) -> Any:
    value: Any = _MANY
    for _ in range(depth):
        value = [value]
    return value


def _large_arguments() -> str:
    return " ".join(f'{{{{ none(x, "{number}") }}}}' for number in range(90))


def attacks() -> dict[str, Attack]:
    """Return the attacks by name."""
    prompt, talk = "/completion", "/chat"
    limit = "more than 4,194,304 bytes"
    return {
        "a list written 500 times": Attack(prompt, completion("{{x}}" * 500, {"x": _MANY}), limit),
        "a list in 500 messages": Attack(talk, chat([_message("{{x}}")] * 500, {"x": _MANY}), limit),
        "a list in 500 parts": Attack(
            talk, chat([_message([{"type": "text", "text": "{{ x }}"}] * 500)], {"x": _MANY}), limit
        ),
        "every level of a nested list": Attack(
            prompt, completion("".join(f"{{{{x{'[0]' * depth}}}}}" for depth in range(100)), {"x": _nested(100)}), limit
        ),
        "a long text as argument of many calls": Attack(
            prompt, completion(_large_arguments(), {"x": "a" * 500_000}), limit
        ),
        "many samples of a long input": Attack(
            prompt, completion("x", {"x": "a" * 3_000_000}, num_samples=128), "num_samples is 128"
        ),
        "many samples of a long prompt": Attack(
            prompt, completion("{{x}}" * 20, {"x": "a" * 100_000}, num_samples=128), "num_samples is 128"
        ),
        "braces alone": Attack(prompt, completion("{{" * 2_000_000, {}), "at most 20,000"),
        "placeholders alone": Attack(prompt, completion("{{a}}" * 800_000, {"a": ""}), "at most 20,000"),
        "missing inputs": Attack(
            prompt, completion("".join(f"{{{{a{number}}}}}" for number in range(19_000)), {}), "and 18900 more"
        ),
        "a path of a million steps": Attack(prompt, completion(f"{{{{{'a.' * 1_000_000}a}}}}", {}), "variables"),
        "a call that never ends": Attack(prompt, completion("{{f(" + "a" * 2_000_000, {}), None),
        "a call of a million arguments": Attack(
            prompt, completion("{{f(" + "1," * 1_000_000 + "1)}}", {}), "more than 20 arguments"
        ),
        "a call that cannot be read": Attack(
            prompt, completion("{{f(" + "1 " * 1_000_000 + ")}}", {}), "cannot be read"
        ),
    }


def send_growing_templates(target: Target) -> None:
    """Send every request of `attacks` once."""
    with target.client() as client:
        for attack in attacks().values():
            client.post(attack.path, json=attack.body)
