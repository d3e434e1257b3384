"""Feedback through the SDK: one, several, labels, taken back, and on a log that is still being streamed."""

import asyncio
import json
import os
from typing import Any

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
project = arguments["project"]
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")

log = humanloop.log(project=project, config={"model": "own", "type": "model"}, inputs={"q": "1"}, output="one")
good = humanloop.feedback(type="rating", value="good", data_id=log.id, user="ada")
bad = humanloop.feedback(type="rating", value="bad", data_id=log.id)
back = humanloop.feedback(type="rating", unset=True, data_id=log.id)
nothing = humanloop.feedback(type="rating", unset=True, data_id=log.id)
several = humanloop.feedback(
    body=[
        {"type": "action", "value": "copied", "data_id": log.id},
        {"type": "action", "value": "saved", "data_id": log.id},
        {"type": "action", "value": "copied", "unset": True, "data_id": log.id},
        {"type": "correction", "value": "two", "data_id": log.id},
    ]
)


def kind_of(answer: object) -> str:
    """How the SDK shows it."""
    return "dict" if isinstance(answer, dict) else type(answer).__name__


async def stream() -> dict[str, Any]:
    """Feedback as soon as there is something to have an opinion about."""
    response = await humanloop.chat_stream(
        project=project, model_config={"model": "gpt-4"}, messages=[{"role": "user", "content": "Tell me a story"}]
    )
    given, rest = None, 0
    async for chunk in response.content:
        if given is None:
            given = await humanloop.afeedback(type="rating", value="good", data_id=chunk["id"])
        else:
            rest += 1
    assert given is not None
    return {"data_id": given.data_id, "value": given.value, "rest": rest}


print(
    json.dumps(
        {
            "log_id": log.id,
            "kind": kind_of(good),
            "id": good.id,
            "good": [good.type, good.value, good.data_id, good.user],
            "bad": bad.value,
            "back": back["value"] if isinstance(back, dict) else back.value,
            "nothing": nothing["value"] if isinstance(nothing, dict) else nothing.value,
            "array": [
                one["value"] if isinstance(one, dict) else one.value
                for one in (several if isinstance(several, list) else several.__root__)
            ],
            "stream": asyncio.run(stream()),
        }
    )
)
