"""Which process is given what."""

from pathlib import Path

import pytest

from deploy.local import services
from deploy.local.folder import Folder
from deploy.local.secrets import BUS_USERS
from deploy.local.stack import NAMES, Options, assemble
from deploy.local.welcome import first_call

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
    return {component.name: dict(component.environment) for component in assemble(options, folder).components}


def test_a_whole_stack_in_the_order_status_shows(options: Options, folder: Folder) -> None:
    assert tuple(environments(options, folder)) == NAMES


def test_a_service_knows_its_own_password_only(options: Options, folder: Folder) -> None:
    found = environments(options, folder)
    passwords = folder.secrets["bus_passwords"]
    for name in services.NAMES:
        assert found[name]["EVERLOOP_NATS_USER"] == name
        assert {user for user in BUS_USERS if passwords[user] in found[name].values()} == {name}
        assert "from-the-caller" not in found[name].values()


def test_services_inherit_the_callers_environment_and_only_generation_provider_keys(
    options: Options, folder: Folder
) -> None:
    found = environments(options, folder)
    for name, environment in found.items():
        is_service = name in services.NAMES
        keys = [key for key in CALLER if key.startswith(("AWS_", "OPENAI_"))]
        assert [key for key in keys if key in environment] == (keys if name == "generation" else [])
        assert ("OTEL_EXPORTER_OTLP_ENDPOINT" in environment) == is_service
        assert ("EVERLOOP_SECRET" in environment) == is_service


def test_what_only_one_service_needs(options: Options, folder: Folder) -> None:
    found = environments(options, folder)
    for variable, owner in [
        ("EVERLOOP_HTTP_PORT", "gateway"),
        ("EVERLOOP_BOOTSTRAP_FILE", "authz"),
        ("EVERLOOP_LOCAL_MODEL_URL", "generation"),
    ]:
        assert [name for name, environment in found.items() if variable in environment] == [owner]


def test_without_the_model(folder: Folder) -> None:
    stack = assemble(Options(CALLER, http_port=0, with_model=False), folder)
    assert "model" not in {component.name for component in stack.components}
    assert all("EVERLOOP_LOCAL_MODEL_URL" not in component.environment for component in stack.components)
    assert '"provider": "mock"' in first_call(stack)


def test_servers_of_the_caller_replace_ours(folder: Folder) -> None:
    caller = CALLER | {"EVERLOOP_MONGO_URL": "mongodb://db.example", "EVERLOOP_NATS_URL": "nats://bus.example"}
    stack = assemble(Options(caller, http_port=0), folder)
    components = {component.name: component for component in stack.components}
    assert set(components) == {"model", *services.NAMES}
    logging = components["logging"]
    assert logging.after == ()
    assert logging.environment["EVERLOOP_MONGO_URL"] == "mongodb://db.example"
    assert logging.environment["EVERLOOP_NATS_URL"] == "nats://bus.example"
    assert logging.environment["EVERLOOP_NATS_PASSWORD"] == "from-the-caller"
    assert "EVERLOOP_NATS_USER" not in components["authz"].environment


def test_the_second_start_has_the_same_addresses(options: Options, folder: Folder) -> None:
    first = assemble(options, folder)
    second = assemble(Options(CALLER), folder)
    assert second.url == first.url
    assert second.api_key == first.api_key
    assert [component.port for component in second.components] == [component.port for component in first.components]
