"""Every generation and log call, with the project's name and with its id; prints the project of each answer."""

import json
import os

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")
MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT, COMPLETION = {"model": "gpt-4"}, {"model": "gpt-3.5-turbo-instruct", "prompt_template": "Hi"}
found = []
for place in ({"project": arguments["name"]}, {"project_id": arguments["id"]}):
    chatted = humanloop.chat(model_config=CHAT, messages=MESSAGES, **place)
    config_id = chatted.data[0].model_config_id_
    completed = humanloop.complete(model_config=COMPLETION, inputs={}, **place)
    found += [
        chatted.project_id,
        completed.project_id,
        humanloop.chat_deployed(messages=MESSAGES, **place).project_id,
        humanloop.chat_model_config(model_config_id=config_id, messages=MESSAGES, **place).project_id,
        humanloop.complete_model_configuration(
            model_config_id=completed.data[0].model_config_id_, inputs={}, **place
        ).project_id,
        humanloop.log(config_id=config_id, output="x", **place).project_id,
        humanloop.model_configs.register(model="gpt-4", endpoint="chat", **place).project_id,
    ]
print(json.dumps(found))
