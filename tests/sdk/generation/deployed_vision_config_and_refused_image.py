"""A deployed vision config called, and a model asked for what it cannot do: what the SDK makes of both."""

import json
import os

from humanloop import ApiException, Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"])

answer = humanloop.chat_deployed(project=arguments["project"], messages=arguments["messages"])
try:
    humanloop.chat(
        project=arguments["project"],
        messages=arguments["messages"],
        model_config={"model": "gpt-3.5-turbo", "temperature": 0},
    )
    refusal = None
except ApiException as error:
    refusal = {"status": error.status, "body": error.body}
print(json.dumps({"output": answer.data[0].output, "refusal": refusal}, default=str))
