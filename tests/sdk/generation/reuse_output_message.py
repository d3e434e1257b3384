"""Append `output_message` to the history and call again, without and with tool calls."""

import json
import os
from typing import Any

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")
config = {
    "model": "gpt-4-1106-preview",
    "tools": [{"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}],
}


def chat(messages: list[Any]) -> dict[str, Any]:
    """One round; the message comes back as plain data, as the tool-calling guide uses it."""
    response = humanloop.chats.raw.create(project=arguments["project"], model_config=config, messages=messages)
    message: dict[str, Any] = json.loads(json.dumps(response.body["data"][0]["output_message"]))
    if arguments["drop_tool_call"]:
        del message["tool_call"]
    return message


messages = [{"role": "user", "content": "Hi"}]
messages += [chat(messages), {"role": "user", "content": "Rain in Oslo and Bergen?"}]
asked = chat(messages)
messages.append(asked)
messages += [{"role": "tool", "tool_call_id": call["id"], "content": "wet"} for call in asked["tool_calls"]]
final = chat(messages)
print(json.dumps({"final": final["content"]}))
