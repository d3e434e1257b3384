"""Export and read a config with a client of the seed era, whose serialize never reaches the server."""

import json
import os

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")
exported = humanloop.model_configs.export(id=arguments["id"])
file = str(getattr(exported, "body", exported))
print(json.dumps({"export": file, "model": humanloop.model_configs.deserialize(config=file).model}))
