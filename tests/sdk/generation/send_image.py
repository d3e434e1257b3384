"""A large image through the SDK: chat, log, read back; prints what became of it everywhere."""

import base64
import hashlib
import json
import os
import random
from typing import Any

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")
image = base64.b64encode(random.Random(arguments["seed"]).randbytes(arguments["size"])).decode()  # noqa: S311
message = {
    "role": "user",
    "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}", "detail": "high"}},
    ],
}
project, config = arguments["project"], {"model": "gpt-4-vision-preview", "max_tokens": 200}


def seen(messages: list[Any]) -> str:
    """The sha256 of the image URL in the last message."""
    content = json.loads(json.dumps(messages))[-1]["content"]
    return hashlib.sha256(content[1]["image_url"]["url"].encode()).hexdigest()


answer = humanloop.chats.raw.create(project=project, model_config=config, messages=[message]).body
logged = humanloop.log(
    project=project, config={"type": "model", "endpoint": "chat", **config}, messages=[message], output="A cat."
)
print(
    json.dumps(
        {
            "sent": seen([message]),
            "answer": seen(answer["data"][0]["messages"]),
            "logs": [
                seen(humanloop.logs.raw.get(id=each).body["messages"]) for each in (answer["data"][0]["id"], logged.id)
            ],
            "list": [
                seen(record["messages"])
                for record in humanloop.logs.raw.list(project_id=answer["project_id"]).body["records"]
            ],
        }
    )
)
