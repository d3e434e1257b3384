"""Delete a log, and list those that are left by search terms and dates; prints the ids of each list."""

import json
import os
from typing import Any

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"])


def listed(**terms: Any) -> list[str]:
    """Ids of the logs found."""
    page = humanloop.logs.list(project_id=arguments["project_id"], **terms)
    records = page["records"] if isinstance(page, dict) else page.records
    return [record["id"] if isinstance(record, dict) else record.id for record in records]


before = listed()
humanloop.logs.delete(id=arguments["ids"])
humanloop.logs.delete()
found = {name: listed(**terms) for name, terms in arguments["terms"].items()}
print(json.dumps({"before": before, "after": listed(), **found}))
