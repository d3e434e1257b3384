"""Forms that clients of 2023 send and later ones do not: 0.5.18 accepts each of them; prints what was answered."""

import json
import os
from typing import Any

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")
project, code = arguments["project"], arguments["code"]
weather = {"name": "weather", "parameters": {"type": "object"}, "source": code}
history = [
    {"role": "user", "content": "Rain in Oslo?"},
    {"role": "assistant", "content": "", "tool_call": {"name": "weather", "arguments": {"city": "Oslo"}}},
    {"role": "tool", "name": "weather", "content": "wet"},
]
said: dict[str, Any] = {}

chat = humanloop.chat(
    project=project, model_config={"model": "gpt-4", "endpoint": "complete", "tools": [weather]}, messages=history
)
said["output"] = chat.body["data"][0]["output"]
said["messages"] = chat.body["data"][0]["messages"]
said["chat_config"] = humanloop.model_configs.get(id=chat.body["data"][0]["model_config_id"]).body
complete = humanloop.complete(
    project=f"{project}-prompt",
    model_config={"model": "gpt-3.5-turbo-instruct", "endpoint": "chat", "prompt_template": "Say hi."},
)
completed_id = complete.body["data"][0]["model_config_id"]
said["completion_endpoint"] = humanloop.model_configs.get(id=completed_id).body["endpoint"]
registered = humanloop.model_configs.register(
    project=f"{project}-template", model="gpt-4", chat_template=history[:1], tools=[weather | {"source": ""}]
)
said["registered"] = registered.body["config"]
by_id = humanloop.chat_model_configuration(
    project=f"{project}-template", model_config_id=registered.body["config"]["id"], messages=history[1:]
)
said["by_id"] = by_id.body["data"][0]["output"]


def logged(config: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Log with the config; return the log as the export of its project has it."""
    made = humanloop.log(project=f"{project}-{config['type']}", config=config, output="x", **fields)
    (log,) = humanloop.projects.export(id=made.body["project_id"]).body["records"]
    return dict(log)


said["tool"] = logged({"type": "tool", "name": "weather", "source": code}, messages=history)
inner = {"type": "model", "model": "gpt-4", "provider": "openai"}
said["agent"] = logged(
    {
        "type": "agent",
        "agent_class": "React",
        "model_config": inner,
        "tools": [{"type": "tool", "name": "weather", "source": code}],
        "other": {"steps": 3},
    }
)
log_id = said["agent"]["id"]
humanloop.feedback(type="rating", value="good", data_id=log_id)
said["taken_back"] = humanloop.feedback(type="rating", value="", unset=True, data_id=log_id).body["value"]
(after,) = humanloop.projects.export(id=said["agent"]["project_id"]).body["records"]
said["feedback_after"] = after["feedback"]
print(json.dumps(said))
