"""Register, export, read and write a config as a `.prompt` file; prints what each call gave."""

import asyncio
import json
import os
from typing import Any

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")
configs = humanloop.model_configs


def text(response: object) -> str:
    """What the synchronous client says a string response is."""
    return str(getattr(response, "body", response))


def read(response: Any) -> dict[str, Any]:
    """The attributes an application reads."""
    return {
        "id": response.id,
        "type": response.type,
        "model": response.model,
        "roles": [message.role for message in response.chat_template],
        "tool": response.tools[0].name,
        "tool_config": [response.tool_configs[0].name, response.tool_configs[0].status],
    }


async def asynchronous(config_id: str, file: str) -> dict[str, Any]:
    """The same through the asynchronous client."""
    return {
        "export": text(await configs.aexport(id=config_id)),
        "serialize": text(await configs.aserialize(**arguments["config"])),
        "deserialize": read(await configs.adeserialize(config=file)),
    }


registered = configs.register(project=arguments["project"], endpoint="chat", **arguments["config"])
config_id = registered.config.id
file = text(configs.export(id=config_id))
print(
    json.dumps(
        {
            "id": config_id,
            "get": read(configs.get(id=config_id)),
            "export": file,
            "serialize": text(configs.serialize(**arguments["config"])),
            "deserialize": read(configs.deserialize(config=file)),
            "async": asyncio.run(asynchronous(config_id, file)),
        }
    )
)
