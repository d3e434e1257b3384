"""The `.raw` namespace: status, headers, body."""

import json
import os

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")

response = humanloop.chats.raw.create(
    project=arguments["project"], model_config={"model": "gpt-4"}, messages=[{"role": "user", "content": "Hi"}]
)
print(
    json.dumps(
        {
            "status": response.status,
            "content_type": response.headers.get("content-type"),
            "output": response.body["data"][0]["output"],
        }
    )
)
