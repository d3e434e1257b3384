"""Set the output of a log posted without it; prints the output the response has."""

import json
import os

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"])
print(json.dumps(humanloop.logs.update_by_ref(**arguments).output))
