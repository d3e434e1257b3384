"""What the processes of a real stack know, and what each service's user of MongoDB may do."""

import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from deploy.local.folder import Folder
from deploy.local.privileges.secrets import MONGO_USERS
from shared.mongo import initiate_replica_set
from tests.fake_servers import openai
from tests.integration.servers import Mongo, running
from tests.stack import EVERLOOP, ROOT, Stack, everloop, start

SERVICES = ("gateway", "generation", "logging", "evaluation", "authz")
WITH_DATABASE = SERVICES[1:]
PROVIDER_KEYS = {
    "OPENAI_API_KEY": "sk-openai-of-this-test",
    "REPLICATE_API_TOKEN": "r8-replicate-of-this-test",
    "AWS_SECRET_ACCESS_KEY": "aws-secret-of-this-test",
    "HOUSE_TOKEN": "token-of-a-compatible-provider",
}
STRAY = {
    "MY_LLM_TOKEN": "stray-token-of-this-test",
    "GITHUB_TOKEN": "another-stray-token",
    "HOUSE_OTHER": "third-stray",
}
COMPATIBLE = {"house": {"base_url": "http://127.0.0.1:9/v1", "key_variable": "HOUSE_TOKEN"}}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environment = PROVIDER_KEYS | STRAY | {"EVERLOOP_COMPATIBLE_PROVIDERS": json.dumps(COMPATIBLE)}
    made = start(tmp_path_factory.mktemp("privileges"), environment=environment)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def processes(stack: Stack) -> dict[str, psutil.Process]:
    """Every process of the stack by name; the supervisor, whose own environment is the caller's, aside."""
    return {name: psutil.Process(row["pid"]) for name, row in stack.status().items()}


def who_has(processes: dict[str, psutil.Process], value: str) -> set[str]:
    return {name for name, process in processes.items() if any(value in each for each in process.environ().values())}


def test_a_stray_variable_of_the_shell_reaches_no_process(processes: dict[str, psutil.Process]) -> None:
    assert {*SERVICES, "mongod", "nats-server", "model"} == set(processes)
    for name, value in STRAY.items():
        assert who_has(processes, value) == set()
        assert not [process for process in processes.values() if name in process.environ()]


@pytest.mark.parametrize("variable", PROVIDER_KEYS)
def test_a_provider_key_is_known_to_generation_alone(processes: dict[str, psutil.Process], variable: str) -> None:
    assert who_has(processes, PROVIDER_KEYS[variable]) == {"generation"}


def test_each_secret_is_known_to_those_who_need_it(stack: Stack, processes: dict[str, psutil.Process]) -> None:
    secrets = Folder(stack.folder).secrets
    assert who_has(processes, secrets["secret"]) == {"gateway", "generation"}
    assert who_has(processes, secrets["mongo_key"]) == set()
    for user, password in secrets["mongo_passwords"].items():
        assert who_has(processes, password) == {user} - {"operator"}
    for user, password in secrets["bus_passwords"].items():
        assert who_has(processes, password) == {"nats-server", user} - {"operator"}
    assert who_has(processes, stack.api_key) == set()


def test_no_command_line_shows_a_secret(stack: Stack, processes: dict[str, psutil.Process]) -> None:
    secrets = Folder(stack.folder).secrets
    hidden = [secrets["secret"], secrets["mongo_key"], stack.api_key, *PROVIDER_KEYS.values()]
    hidden += [*secrets["mongo_passwords"].values(), *secrets["bus_passwords"].values()]
    supervisor = psutil.Process(Folder(stack.folder).state["pid"])
    for process in (supervisor, *processes.values()):
        assert not [secret for secret in hidden if secret in " ".join(process.cmdline())]


def test_what_holds_a_secret_is_for_its_owner_only(stack: Stack) -> None:
    for name in ("secrets.json", "mongo.key", "credentials.json"):
        assert (stack.folder / name).stat().st_mode & 0o777 == 0o600


Document = dict[str, Any]


def client_of(stack: Stack, user: str, password: str | None = None) -> AsyncMongoClient[Document]:
    return AsyncMongoClient(
        f"mongodb://127.0.0.1:{stack.status()['mongod']['port']}/?directConnection=true",
        username=user,
        password=password or Folder(stack.folder).secrets["mongo_passwords"][user],
        authSource="admin" if user == "operator" else f"everloop_{user}",
        serverSelectionTimeoutMS=3_000,
    )


@pytest.fixture(params=WITH_DATABASE)
async def login(request: pytest.FixtureRequest, stack: Stack) -> AsyncIterator[tuple[str, AsyncMongoClient[Document]]]:
    """A service's name, and a connection as its user."""
    async with client_of(stack, request.param) as client:
        yield request.param, client


async def test_a_service_uses_its_own_database(login: tuple[str, AsyncMongoClient[Document]]) -> None:
    name, client = login
    tried = client[f"everloop_{name}"]["tried"]
    await tried.create_index([("a", 1)])
    await tried.insert_one({"a": 1})
    assert await tried.count_documents({"a": 1}) == 1
    assert {each["name"] for each in await (await client.list_databases()).to_list()} == {f"everloop_{name}"}
    await tried.drop()


async def test_a_service_cannot_touch_what_is_not_its_own(login: tuple[str, AsyncMongoClient[Document]]) -> None:
    name, client = login
    for other in ({f"everloop_{other}" for other in WITH_DATABASE} | {"admin", "local", "other"}) - {
        f"everloop_{name}"
    }:
        database = client[other]
        attempts: list[Awaitable[Any]] = [
            database["projects"].find_one({}),
            database["projects"].insert_one({}),
            database.list_collection_names(),
            database.command("usersInfo", 1),
            database.command("dropDatabase"),
        ]
        for attempt in attempts:
            with pytest.raises(OperationFailure, match="not authorized"):
                await attempt


async def test_a_service_cannot_make_users_or_manage_the_server(login: tuple[str, AsyncMongoClient[Document]]) -> None:
    name, client = login
    own = client[f"everloop_{name}"]
    attempts: list[Awaitable[Any]] = [
        own.command("createUser", "friend", pwd="p" * 20, roles=[]),
        own.command("grantRolesToUser", name, roles=[{"role": "root", "db": "admin"}]),
        client.admin.command("createUser", "friend", pwd="p" * 20, roles=["root"]),
        client.admin.command("replSetGetConfig"),
        client.admin.command("shutdown"),
    ]
    for attempt in attempts:
        with pytest.raises(OperationFailure, match="not authorized"):
            await attempt


async def test_nobody_gets_in_without_a_password(stack: Stack) -> None:
    url = f"mongodb://127.0.0.1:{stack.status()['mongod']['port']}/?directConnection=true"
    stranger: AsyncMongoClient[Document] = AsyncMongoClient(url)
    async with stranger:
        with pytest.raises(OperationFailure, match="requires authentication"):
            await stranger["everloop_generation"]["projects"].find_one({})
        with pytest.raises(OperationFailure, match="requires authentication"):
            await stranger.admin.command("createUser", "friend", pwd="p" * 20, roles=["root"])
    async with client_of(stack, "logging", "guess") as guesser:
        with pytest.raises(OperationFailure, match="Authentication failed"):
            await guesser["everloop_logging"]["logs"].find_one({})


async def test_people_have_a_user_that_may_do_everything(stack: Stack) -> None:
    async with client_of(stack, "operator") as operator:
        names = {each["name"] for each in await (await operator.list_databases()).to_list()}
        assert {"admin", "local", "everloop_generation", "everloop_authz"} <= names


async def test_a_folder_from_before_mongodb_had_users_comes_up_with_its_data(tmp_path: Path) -> None:
    made = start(tmp_path / "data", "--no-model")
    made.stop()
    secrets = Folder(made.folder).secrets
    Folder(made.folder).secrets = {key: secrets[key] for key in ("secret", "bus_passwords")}
    (made.folder / "mongo.key").unlink()
    old = Mongo(tmp_path)
    old.command[old.command.index("--dbpath") + 1] = str(made.folder / "mongod")
    with running(old):
        await initiate_replica_set(f"mongodb://127.0.0.1:{old.port}", f"127.0.0.1:{old.port}")
        old_client: AsyncMongoClient[Document] = AsyncMongoClient(
            f"mongodb://127.0.0.1:{old.port}/?directConnection=true"
        )
        async with old_client:
            for user in MONGO_USERS:
                await old_client["admin" if user == "operator" else f"everloop_{user}"].command("dropUser", user)
            assert (await old_client.admin.command("usersInfo", {"forAllDBs": True}))["users"] == []
            await old_client["everloop_logging"]["kept"].insert_one({"_id": "from before"})
    again = start(made.folder, "--no-model")
    try:
        async with client_of(again, "logging") as client:
            assert await client["everloop_logging"]["kept"].find_one({}) == {"_id": "from before"}
        assert again.api_key == made.api_key
    finally:
        again.stop()


def test_a_first_start_killed_at_any_moment_locks_nobody_out(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data")
    command = [str(EVERLOOP), "up", "--no-model", "--port", "0", "--data", str(folder.path)]
    for seconds in (0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.5):
        killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    made = start(folder.path, "--no-model")
    made.stop()


async def test_drawing_the_secrets_again_locks_nobody_out(tmp_path: Path) -> None:
    """The message for a broken secrets.json is to remove it."""
    made = start(tmp_path / "data", "--no-model")
    made.stop()
    (made.folder / "secrets.json").unlink()
    again = start(made.folder, "--no-model")
    again.stop()
    assert again.api_key == made.api_key


def test_a_provider_key_outlives_the_rotation_of_the_secret(tmp_path: Path) -> None:
    upstream = openai.start()
    environment = {"OPENAI_BASE_URL": upstream.url}
    data = ("--data", str(tmp_path / "data"))

    def key_used(stack: Stack) -> str | None:
        config = {"model": "gpt-4o", "provider": "openai"}
        body = {"project": "kept", "model_config": config, "messages": [{"role": "user", "content": "Hi."}]}
        with httpx.Client(base_url=stack.base_url, headers={"X-API-KEY": stack.api_key}, timeout=30) as client:
            answer = client.post("/v4/chat", json=body)
            assert answer.status_code == 200, answer.text
        return upstream.last.key

    made = start(tmp_path / "data", "--no-model", environment=environment)
    with httpx.Client(base_url=made.base_url, headers={"X-API-KEY": made.api_key}) as client:
        assert client.put("/api/provider-keys/openai", json={"key": "sk-kept-for-long"}).status_code < 300
    running_still = subprocess.run(
        [str(EVERLOOP), "secret", "rotate", *data], capture_output=True, text=True, check=False
    )
    assert (running_still.returncode, "everloop down" in running_still.stderr) == (1, True)
    made.stop()
    first = Folder(made.folder).secrets["secret"]
    everloop("secret", "rotate", *data)
    again = start(made.folder, "--no-model", environment=environment)
    assert key_used(again) == "sk-kept-for-long"
    again.stop()
    everloop("secret", "drop-old", *data)
    assert first not in (made.folder / "secrets.json").read_text()
    last = start(made.folder, "--no-model", environment=environment)
    assert key_used(last) == "sk-kept-for-long"
    last.stop()


def test_no_log_holds_a_secret(stack: Stack) -> None:
    secrets = Folder(stack.folder).secrets
    hidden = [secrets["secret"], secrets["mongo_key"], *secrets["mongo_passwords"].values()]
    hidden += [*secrets["bus_passwords"].values(), *PROVIDER_KEYS.values()]
    for log in (stack.folder / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert not [secret for secret in hidden if secret in text], log
        assert "permissions violation" not in text.lower(), log


@pytest.mark.parametrize("one_for_all", [True, False], ids=["a user in the URL", "a user for each service"])
def test_a_mongodb_of_ones_own_is_used_with_its_users(stack: Stack, tmp_path: Path, one_for_all: bool) -> None:
    passwords = Folder(stack.folder).secrets["mongo_passwords"]
    server = f"127.0.0.1:{stack.status()['mongod']['port']}"
    if one_for_all:
        url = f"mongodb://operator:{passwords['operator']}@{server}/?authSource=admin&directConnection=true"
        environment = {"EVERLOOP_MONGO_URL": url, "EVERLOOP_MONGO_PREFIX": "theirs"}
    else:
        environment = {f"EVERLOOP_MONGO_PASSWORD_{name.upper()}": passwords[name] for name in WITH_DATABASE}
        environment["EVERLOOP_MONGO_URL"] = f"mongodb://{server}/?directConnection=true"
    other = start(tmp_path / "data", "--no-model", environment=environment)
    try:
        rows = other.status()
        assert "mongod" not in rows
        assert {row["state"] for row in rows.values()} == {"ready"}
        for name in SERVICES:
            known = psutil.Process(rows[name]["pid"]).environ().values()
            has = {user for user, password in passwords.items() if any(password in value for value in known)}
            assert has == (({"operator"} if one_for_all else {name}) if name in WITH_DATABASE else set())
    finally:
        other.stop()
