"""Commands, environments and addresses of the components of a stack."""

from pathlib import Path

import pytest

from deploy.local import services
from deploy.local.cli.ready_message import example_request
from deploy.local.folder import Folder
from deploy.local.privileges.secrets import BUS_USERS, MONGO_USERS
from deploy.local.stack import NAMES, Options, build_stack

CALLER = {
    "PATH": "/usr/bin",
    "OPENAI_API_KEY": "sk-theirs",
    "AWS_ACCESS_KEY_ID": "AKIATHEIRS",
    "AWS_BEARER_TOKEN_BEDROCK": "bedrock-theirs",
    "AWS_SECRET_ACCESS_KEY": "secret-theirs",
    "AWS_SESSION_TOKEN": "token-theirs",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector",
    "EVERLOOP_NATS_PASSWORD_LOGGING": "from-the-caller",
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.create()
    return made


@pytest.fixture
def options() -> Options:
    return Options(CALLER, http_port=0)


def environments(options: Options, folder: Folder) -> dict[str, dict[str, str]]:
    return {component.name: dict(component.environment) for component in build_stack(options, folder).components}


def test_a_whole_stack_in_the_order_status_shows(options: Options, folder: Folder) -> None:
    assert tuple(environments(options, folder)) == NAMES


def test_a_service_is_started_after_the_servers_it_needs(options: Options, folder: Folder) -> None:
    after = {component.name: set(component.after) for component in build_stack(options, folder).components}
    assert after["gateway"] == {"nats-server"}
    assert {name for name in services.NAMES if after[name] == {"mongod", "nats-server"}} == {
        *("generation", "logging", "evaluation", "authz")
    }


def test_a_service_knows_its_own_password_only(options: Options, folder: Folder) -> None:
    variables = environments(options, folder)
    passwords = folder.secrets["bus_passwords"]
    for name in services.NAMES:
        assert variables[name]["EVERLOOP_NATS_USER"] == name
        assert {user for user in BUS_USERS if passwords[user] in variables[name].values()} == {name}
        assert "from-the-caller" not in variables[name].values()


def test_only_generation_has_provider_keys_and_only_two_the_secret(options: Options, folder: Folder) -> None:
    variables = environments(options, folder)
    for name, environment in variables.items():
        keys = [key for key in CALLER if key.startswith(("AWS_", "OPENAI_"))]
        assert [key for key in keys if key in environment] == (keys if name == "generation" else [])
        assert ("OTEL_EXPORTER_OTLP_ENDPOINT" in environment) == (name in services.NAMES)
        assert (folder.secrets["secret"] in environment.values()) == (name in {"gateway", "generation"})


@pytest.mark.parametrize(
    ("host", "is_on"),
    [(None, True), ("127.0.0.1", True), ("127.0.0.2", True), ("localhost", True), ("0.0.0.0", False)],  # noqa: S104
)
def test_providers_beside_everloop_are_turned_on_where_only_this_machine_can_call(
    folder: Folder, host: str | None, is_on: bool
) -> None:
    caller = CALLER | ({"EVERLOOP_HTTP_HOST": host} if host else {})
    generation = environments(Options(caller, http_port=0), folder)["generation"]
    usual = {"OLLAMA_BASE_URL": "http://127.0.0.1:11434/v1", "LMSTUDIO_BASE_URL": "http://127.0.0.1:1234/v1"}
    assert {name: generation.get(name) for name in usual} == (usual if is_on else dict.fromkeys(usual))
    theirs = environments(Options(caller | {"OLLAMA_BASE_URL": "http://gpu/v1"}, http_port=0), folder)["generation"]
    assert theirs["OLLAMA_BASE_URL"] == "http://gpu/v1"


def test_a_service_has_its_own_user_of_mongodb(options: Options, folder: Folder) -> None:
    variables = environments(options, folder)
    passwords = folder.secrets["mongo_passwords"]
    for name, environment in variables.items():
        own = [name] if name in MONGO_USERS else []
        assert [user for user in MONGO_USERS if passwords[user] in environment.values()] == own
        assert ("EVERLOOP_MONGO_URL" in environment) == bool(own)
        assert environment.get("EVERLOOP_MONGO_USER", name) == name


def test_no_secret_is_in_a_command_line(options: Options, folder: Folder) -> None:
    commands = [" ".join(component.command) for component in build_stack(options, folder).components]
    kept = folder.secrets
    secrets = [kept["secret"], kept["mongo_key"], *kept["bus_passwords"].values(), *kept["mongo_passwords"].values()]
    assert not any(secret in command for command in commands for secret in secrets)


def test_the_callers_own_secret_goes_before_the_folders(folder: Folder) -> None:
    caller = CALLER | {"EVERLOOP_SECRET": "theirs", "EVERLOOP_SECRET_FALLBACKS": "older"}
    given = environments(Options(caller, http_port=0), folder)["generation"]
    assert (given["EVERLOOP_SECRET"], given["EVERLOOP_SECRET_FALLBACKS"]) == ("theirs", "older")


def test_what_only_one_service_needs(options: Options, folder: Folder) -> None:
    variables = environments(options, folder)
    for variable, owner in [
        ("EVERLOOP_HTTP_PORT", "gateway"),
        ("EVERLOOP_BOOTSTRAP_FILE", "authz"),
        ("EVERLOOP_LOCAL_MODEL_URL", "generation"),
    ]:
        assert [name for name, environment in variables.items() if variable in environment] == [owner]


def test_without_the_model(folder: Folder) -> None:
    stack = build_stack(Options(CALLER, http_port=0, with_model=False), folder)
    assert "model" not in {component.name for component in stack.components}
    assert all("EVERLOOP_LOCAL_MODEL_URL" not in component.environment for component in stack.components)
    assert '"provider": "mock"' in example_request(stack)


def test_servers_of_the_caller_replace_ours(folder: Folder) -> None:
    caller = CALLER | {
        "EVERLOOP_MONGO_URL": "mongodb://db.example",
        "EVERLOOP_MONGO_PASSWORD_AUTHZ": "of-their-mongodb",
        "EVERLOOP_NATS_URL": "nats://bus.example",
    }
    stack = build_stack(Options(caller, http_port=0), folder)
    components = {component.name: component for component in stack.components}
    assert set(components) == {"model", *services.NAMES}
    logging = components["logging"]
    assert logging.after == ()
    assert logging.environment["EVERLOOP_MONGO_URL"] == "mongodb://db.example"
    assert logging.environment["EVERLOOP_NATS_URL"] == "nats://bus.example"
    assert logging.environment["EVERLOOP_NATS_PASSWORD"] == "from-the-caller"
    assert "EVERLOOP_NATS_USER" not in components["authz"].environment
    assert components["authz"].environment["EVERLOOP_MONGO_USER"] == "authz"
    assert components["authz"].environment["EVERLOOP_MONGO_PASSWORD"] == "of-their-mongodb"
    assert "EVERLOOP_MONGO_USER" not in logging.environment
    assert "EVERLOOP_MONGO_URL" not in components["gateway"].environment


def test_the_second_start_has_the_same_addresses(options: Options, folder: Folder) -> None:
    first = build_stack(options, folder)
    second = build_stack(Options(CALLER), folder)
    assert second.url == first.url
    assert second.api_key == first.api_key
    assert [component.port for component in second.components] == [component.port for component in first.components]
