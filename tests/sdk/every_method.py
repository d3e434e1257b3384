"""Calls every public method of the client, the synchronous and the asynchronous one; prints what each call came to.

`built` has the arguments of the methods that Everloop answers; all others are called with what the client demands.
"""

import asyncio
import inspect
import itertools
import json
import os
from typing import Any

from humanloop import Humanloop
from humanloop.exceptions import ApiException

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")
project, number = arguments["project"], itertools.count()
outcomes: dict[str, str] = {}
DEMANDED: dict[str, Any] = {
    "arguments_type": "target_free",
    "body": ["evtc_1"],
    "config": {"base_model": "m"},
    "evaluator_ids": ["evfn_1"],
    "evaluator_version_ids": ["evv_1"],
    "log": {"project": "p", "config": {"model": "m", "type": "model"}},
    "messages": [],
    "positive_labels": [{"type": "rating", "value": "good"}],
    "return_type": "boolean",
    "status": "completed",
    "type": "external",
}
"""By the name of a parameter."""
DEMANDED_BY: dict[str, dict[str, Any]] = {
    "datapoints.update": {"id": "x"},
    "datasets.create_datapoint": {"body": {"inputs": {"q": "1"}, "messages": [], "target": {}}},
    "datasets.list_all_for_project": {"project_id": "x"},
    "evaluations.list_all_for_project": {"project_id": "x"},
    "evaluations.log_result": {"result": True},
    "evaluations.result": {"result": True},
    "logs.delete": {"id": ["data_0000000000000000000000"]},
}
"""By the synchronous method: what its signature does not tell."""
MODEL = {"model": "mock", "provider": "mock"}
MESSAGES = [{"role": "user", "content": "Hi"}]
PROMPT = MODEL | {"prompt_template": "Say {{what}}."}
ROOTS = {"": humanloop} | {
    name: value for name, value in vars(humanloop).items() if type(value).__module__.startswith("humanloop.apis")
}


def methods() -> list[str]:
    """Return the public methods as `projects.list`, those of the client itself as `chat`."""
    return [
        f"{root}.{name}".lstrip(".")
        for root, owner in ROOTS.items()
        for name, _ in inspect.getmembers(owner, callable)
        if not name.startswith("_") and not name.endswith("_oapg")
    ]


def method(name: str) -> Any:
    root, _, own = name.rpartition(".")
    return getattr(ROOTS[root], own)


def asynchronous(name: str) -> str:
    root, _, own = name.rpartition(".")
    return f"{root}.a{own}".lstrip(".")


def field(response: Any, *path: str) -> Any:
    """Return a field of a response: of a dict in `body`, or of a model."""
    value = getattr(response, "body", response)
    for name in path:
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


async def outcome(name: str, /, **fields: Any) -> Any:
    """Call a method and note what came of it, a failure for good; return the response. Callable values are called."""
    response: Any = None
    failed = outcomes.get(name, "ok") != "ok"
    try:
        response = method(name)(**{key: value() if callable(value) else value for key, value in fields.items()})
        if inspect.isawaitable(response):
            response = await response
        if name.endswith("_stream"):
            chunks = [chunk async for chunk in response.content]
            assert chunks
            assert all(chunk["id"] for chunk in chunks)
        outcomes[name] = outcomes[name] if failed else "ok"
    except ApiException as error:
        outcomes[name] = str(error.status)
    except Exception as error:  # noqa: BLE001 - the client's own refusal
        outcomes[name] = f"{type(error).__name__}: {error}"
    return response


async def call(*names: str, **fields: Any) -> Any:
    """Call the methods of these names that this client has, both forms of each; return the last response."""
    response = None
    for name in set(names) & known:
        await outcome(name, **fields)
        if not name.endswith("_stream"):
            response = await outcome(asynchronous(name), **fields)
    return response


known = set(methods())


async def built() -> None:
    """Call what Everloop answers."""
    created = await call("projects.create", name=lambda: f"{project}-{next(number)}")
    project_id = field(created, "id")
    name = field(created, "name")
    chat_config = {**MODEL, "endpoint": "chat", "chat_template": [{"role": "system", "content": "Be {{how}}."}]}
    config_id = field(await call("model_configs.register", project=name, **chat_config), "config", "id")
    completed = await call("model_configs.register", project=f"{project}-prompt", **PROMPT)
    prompt_id, prompt_project = field(completed, "config", "id"), field(completed, "project_id")
    await call("model_configs.get", id=config_id)
    file = await call("model_configs.export", id=config_id)
    await call("model_configs.serialize", **chat_config)
    await call("model_configs.deserialize", config=str(field(file)))

    asked = {"messages": MESSAGES, "inputs": {"how": "dry"}}
    await call("chat", "chats.create", "chat_stream", project=name, model_config=MODEL, messages=MESSAGES)
    await call("chat_deployed", "chats.create_deployed", "chat_deployed_stream", project=name, **asked)
    await call(
        *("chat_model_config", "chat_model_configuration", "chats.create_model_config", "chat_model_config_stream"),
        project=name,
        model_config_id=config_id,
        **asked,
    )
    said = {"project": f"{project}-prompt", "inputs": {"what": "hi"}}
    await call("complete", "completions.create", "complete_stream", model_config=PROMPT, **said)
    await call("complete_deployed", "completions.create_deployed", "complete_deployed_stream", **said)
    await call(
        *("complete_model_configuration", "completions.create_model_config", "complete_model_config_stream"),
        model_config_id=prompt_id,
        **said,
    )

    session = await call("sessions.create")
    session_id = field(session, "id")
    logged = await call(
        *("log", "logs.log"),
        project=name,
        config=MODEL | {"type": "model"},
        inputs={"q": "1"},
        session_id=session_id,
        reference_id=lambda: f"{project}-{next(number)}",
    )
    log_id = field(logged, "id")
    await call("logs.update", id=log_id, output="one", duration=1)
    await call("logs.update_by_ref", reference_id=f"{project}-{next(number) - 1}", output="two")
    await call("logs.get", id=log_id)
    await call("logs.list", project_id=project_id, search="two", start_date="2023-01-01")
    await call("feedback", "feedback_api.feedback", type="rating", value="good", data_id=log_id)
    await call("feedback", "feedback_api.feedback", type="rating", value="", unset=True, data_id=log_id)
    await call("sessions.get", id=session_id)
    await call("sessions.list", project_id=project_id)

    await call("projects.get", id=project_id)
    await call("projects.list", filter=project, sort_by="name", order="asc")
    await call("projects.list_configs", id=project_id)
    active = await call("projects.get_active_config", id=project_id)
    await call("projects.export", id=project_id)
    await call("projects.create_feedback_type", id=project_id, type="mood", _class="select", values=[{"value": "fine"}])
    takes_types = "body" in inspect.signature(humanloop.projects.update_feedback_types).parameters  # not 0.7.35
    types = {"body": [{"type": "mood", "values": [{"value": "sad"}]}]} if takes_types else {}
    await call("projects.update_feedback_types", id=project_id, **types)
    await call("projects.update", id=project_id)
    environment_id = field(active, "environment_id")
    deployed = {"project_id": project_id, "config_id": config_id, "environments": [{"id": environment_id}]}
    await call("projects.deploy_config", **deployed)
    await call("projects.list_deployed_configs", id=project_id)
    await call("projects.delete_deployed_config", project_id=project_id, environment_id=environment_id)
    await call("projects.deactivate_config", id=project_id)
    ids = iter([project_id, prompt_project])
    await call("projects.delete", id=lambda: next(ids))


async def all_others() -> None:
    """Call every method that has not been called, with what its signature demands."""
    for name in sorted(known - outcomes.keys()):
        plain = next((one for one in DEMANDED_BY if name in (one, asynchronous(one))), name)
        parameters = inspect.signature(method(name)).parameters.values()
        demanded = {
            each.name: DEMANDED.get(each.name, "x")
            for each in parameters
            if each.default is inspect.Parameter.empty and each.kind is each.POSITIONAL_OR_KEYWORD
        }
        await outcome(name, **demanded | DEMANDED_BY.get(plain, {}))


async def main() -> None:
    await built()
    await all_others()


asyncio.run(main())
print(json.dumps(outcomes))
