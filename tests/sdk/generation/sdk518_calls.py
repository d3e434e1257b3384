"""What 0.5.18 can do: chat, complete, log, feedback, sessions, streams; its answers are dicts."""

import asyncio
import json
import os
from typing import Any

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
project, reference = arguments["project"], arguments["session_reference_id"]
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")
weather = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}

chat = humanloop.chat(
    project=project,
    model_config={"model": "gpt-4-1106-preview", "tools": [weather]},
    messages=[{"role": "user", "content": "Rain in Oslo?"}],
    session_reference_id=reference,
)
message = chat.body["data"][0]["output_message"]
del message["tool_call"]  # as the tool calling guide does
again = humanloop.chat(
    project=project,
    model_config={"model": "gpt-4-1106-preview", "tools": [weather]},
    messages=[
        {"role": "user", "content": "Rain in Oslo?"},
        message,
        {"role": "tool", "content": "wet", "tool_call_id": message["tool_calls"][0]["id"]},
    ],
    session_reference_id=reference,
)
completion = humanloop.complete(
    project=f"{project}-complete",
    model_config={"model": "gpt-3.5-turbo-instruct", "prompt_template": "Say {{what}}."},
    inputs={"what": "hi"},
    session_reference_id=reference,
)
log = humanloop.log(
    project=f"{project}-log",
    config={"type": "model", "model": "own"},
    inputs={"q": "1"},
    output="one",
    session_reference_id=reference,
)
session = humanloop.sessions.get(chat.body["session_id"])
rating = humanloop.feedback(type="rating", value="good", data_id=log.body["id"])
several = humanloop.feedback(
    body=[
        {"type": "action", "value": "copied", "data_id": log.body["id"]},
        {"type": "rating", "unset": True, "data_id": log.body["id"]},
    ]
)
nothing = humanloop.feedback(type="rating", unset=True, data_id=log.body["id"])


async def stream() -> list[Any]:
    response = await humanloop.chat_stream(
        project=project, model_config={"model": "gpt-4"}, messages=[{"role": "user", "content": "Tell me a story"}]
    )
    return [[chunk["id"], chunk["output"]] async for chunk in response.content]


print(
    json.dumps(
        {
            "tool_calls": message["tool_calls"],
            "again": again.body["data"][0]["output"],
            "completion": completion.body["data"][0]["output"],
            "log_id": log.body["id"],
            "rating": rating.body["value"],
            "rating_id": rating.body["id"],
            "nothing": nothing.body["value"],
            "array": [[one["type"], one["value"]] for one in several.body],
            "datapoints": session.body["datapoints_count"],
            "projects": len(session.body["projects"]),
            "chunks": asyncio.run(stream()),
        }
    )
)
