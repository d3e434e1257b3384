"""An async chat with its own time limit; prints what came of it."""

import asyncio
import json
import os
from typing import Any

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")
limit = {"timeout": arguments["timeout"]} if "timeout" in arguments else {}


async def main() -> dict[str, Any]:
    try:
        answer = await humanloop.achat(
            project=arguments["project"],
            model_config=arguments["model_config"],
            messages=[{"role": "user", "content": "Take your time"}],
            **limit,
        )
    except Exception as error:  # noqa: BLE001 - what it is, is the question
        return {"error": type(error).__name__}
    return {"output": answer.data[0].output}


print(json.dumps(asyncio.run(main())))
