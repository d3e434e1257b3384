"""A streamed chat through the SDK; prints its chunks."""

import asyncio
import json
import os
from typing import Any

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")


async def main() -> list[Any]:
    """The chunks in order."""
    stream = await humanloop.chat_stream(
        project=arguments["project"],
        model_config={"model": "gpt-4"},
        messages=[{"role": "user", "content": "Tell me a story"}],
    )
    return [
        {"id": chunk["id"], "output": chunk["output"], "finish_reason": chunk.get("finish_reason")}
        async for chunk in stream.content
    ]


print(json.dumps(asyncio.run(main())))
