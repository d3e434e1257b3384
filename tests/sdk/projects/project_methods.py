"""Every method of `humanloop.projects`; prints what the answers say where an application reads it."""

import json
import os
from typing import Any

from humanloop import Humanloop

arguments = json.loads(os.environ["ARGUMENTS"])
humanloop = Humanloop(api_key=os.environ["EVERLOOP_API_KEY"], host=os.environ["EVERLOOP_URL"], openai_api_key="sk-mine")
name, staging = arguments["name"], arguments["staging"]
projects = humanloop.projects
said: dict[str, Any] = {}


def register(**fields: object) -> str:
    """Id of a config of the project."""
    config = {"model": "gpt-4", "endpoint": "chat", "provider": "openai"} | fields
    config_id: str = humanloop.model_configs.register(project=name, **config).config.id
    return config_id


created = projects.create(name=name)
said["created"] = [created.id, created.name, created.active_config, created.data_count, created.active_evaluators]
said["users"] = [user.email_address for user in created.users]
said["feedback_types"] = {
    kind.type: kind.values and {label.value: label.sentiment for label in kind.values}
    for kind in created.feedback_types
}
added = projects.create_feedback_type(
    id=created.id, type="action", _class="multi_select", values=[{"value": "copied", "sentiment": "positive"}]
)
said["added"] = [added.type, [[label.value, label.sentiment] for label in added.values]]

first, second = register(name="brave", temperature=0.5), register(temperature=0)
said["configs"] = [first, second]
configs = projects.list_configs(id=created.id, evaluation_aggregates=True)
said["list_configs"] = [[one.config.id, one.config.model, one.num_datapoints, one.project_name] for one in configs]
active = projects.get_active_config(id=created.id)
said["get_active_config"] = [active.config.id, active.config.temperature, active.environment_id]

chatted = humanloop.chat_deployed(project=name, messages=[{"role": "user", "content": "Hi"}])
said["chat_deployed"] = [chatted.data[0].id, chatted.data[0].model_config_id_]
exported = projects.export(id=created.id, page=0, size=5)
said["export"] = [exported.total, exported.page, exported.size]
said["exported"] = [[log.id, log.config.id, log.output, log.project] for log in exported.records]

deployed = projects.deploy_config(
    project_id=created.id, config_id=second, environments=[{"id": active.environment_id}, {"id": staging}]
)
said["deploy_config"] = [[row.environment_id, row.model_config_id_, row.environment_tag] for row in deployed]
said["chat_after"] = (
    humanloop.chat_deployed(project=name, messages=[{"role": "user", "content": "Hi"}]).data[0].model_config_id_
)
removed = projects.delete_deployed_config(project_id=created.id, environment_id=staging)
said["delete_deployed_config"] = removed
rows = projects.list_deployed_configs(id=created.id)
said["list_deployed_configs"] = {row.environment_id: getattr(row, "model_config_id_", None) for row in rows}

updated = projects.update(id=created.id, name=f"{name}-2", active_config_id=first)
said["updated"] = [updated.name, updated.active_config.config.id, updated.config_type, updated.data_count]
got = projects.get(id=created.id)
said["got"] = [got.name, got.active_config.project_name, got.active_config.num_datapoints]
page = projects.list(filter=f"{name}-2".upper(), sort_by="name", order="asc")
said["list"] = [page.total, [[one.id, one.active_config.config.id] for one in page.records]]
inactive = projects.deactivate_config(id=created.id)
said["deactivated"] = inactive.active_config
said["delete"] = projects.delete(id=created.id)
said["after"] = projects.list(filter=name).total
print(json.dumps(said))
