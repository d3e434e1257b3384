"""What the Pydantic models of 0.7.x give: dots instead of brackets, all the way in."""

import json
import os

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")

registered = humanloop.model_configs.register(
    project=arguments["project"],
    model="gpt-4-1106-preview",
    endpoint="chat",
    chat_template=[{"role": "system", "content": "Be brief."}],
)
chat = humanloop.chat_deployed(project=arguments["project"], messages=[{"role": "user", "content": "Hi"}])
log = humanloop.logs.get(chat.data[0].id) if hasattr(humanloop.logs, "get") else None
print(
    json.dumps(
        {
            "registered": type(registered).__name__,
            "config": type(registered.config).__name__,
            "config_id": registered.config.id,
            "chat": type(chat).__name__,
            "project_id": chat.project_id,
            "output": chat.data[0].output,
            "message": chat.data[0].output_message.content,
            "usage": chat.usage.total_tokens,
            "log_config_id": log.config.id if log else None,
        }
    )
)
