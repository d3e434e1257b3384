"""A chat and a completion whose templates call a tool, and a chat with a linked tool; gives what came back."""

import json
import os
from typing import Any

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")
chat = humanloop.chat(
    project=arguments["project"],
    model_config={
        "model": "gpt-4",
        "chat_template": [{"role": "system", "content": arguments["template"]}],
        "tools": [{"id": arguments["linked"], "source": "organization"}],
    },
    messages=[{"role": "user", "content": "Hi"}],
    inputs=arguments["inputs"],
)
completion = humanloop.complete(
    project=arguments["project"] + "-completion",
    model_config={"model": "gpt-3.5-turbo-instruct", "prompt_template": arguments["template"]},
    inputs=arguments["inputs"],
)
config = humanloop.model_configs.get(id=chat.data[0].model_config_id_)


def results(sample: Any) -> list[Any]:
    """As plain data."""
    return [
        {"name": result.name, "signature": result.signature, "result": result.result} for result in sample.tool_results
    ]


print(
    json.dumps(
        {
            "chat": results(chat.data[0]),
            "completion": results(completion.data[0]),
            "tools": [{"id": tool.id, "name": tool.name, "source": tool.source} for tool in config.tools],
        }
    )
)
