"""Open a session; prints its id."""

import json
import os

from humanloop import Humanloop

print(
    json.dumps(Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"]).sessions.create().id)
)
