"""`everloop up`, `status`, `down` and `doctor`, with the real servers and services in a folder of their own."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nats
import psutil
import pytest

from deploy.local.folder import Folder
from deploy.local.servers import binaries, ports
from deploy.local.servers.local_model import MODEL_NAME, local_model
from deploy.local.stack import NAMES
from deploy.local.supervisor.supervisor import Supervisor

RUNNING = [name for name in NAMES if name != "model"]
SERVICES = RUNNING[2:]


class Everloop:
    """The command line on one data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        clean = {name: value for name, value in os.environ.items() if not name.startswith("EVERLOOP_")}
        self._run = partial(subprocess.run, capture_output=True, text=True, timeout=60, check=False, env=clean)
        self._popen = partial(subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean)

    def command(self, *verb: str) -> list[str]:
        return [sys.executable, "-P", "-m", "deploy.local.cli.main", *verb, "--data", str(self.data)]

    def __call__(self, verb: str, *options: str) -> "subprocess.CompletedProcess[str]":
        return self._run(self.command(verb, *options))

    def start(self, verb: str, *options: str) -> "subprocess.Popen[str]":
        return self._popen(self.command(verb, *options))

    @property
    def supervisor(self) -> int:
        return int(Folder(self.data).state["pid"])

    def components(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in json.loads(self("status", "--json").stdout)}

    def until(self, name: str, **values: object) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while not values.items() <= (found := self.components()[name]).items():
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found


@pytest.fixture(scope="module")
def everloop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everloop]:
    """A stack that runs; a test that ends it starts it again."""
    stack = Everloop(tmp_path_factory.mktemp("stack") / "data")
    started = stack("up", "--detach", "--no-model", "--port", "0")
    assert started.returncode == 0, started.stdout + started.stderr
    yield stack
    stack("down")


def get(url: str | urllib.request.Request) -> tuple[int, Any]:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
        return answer.status, json.load(answer)


def test_up_returns_when_every_service_is_ready(everloop: Everloop) -> None:
    url = Folder(everloop.data).state["url"]
    status, said = get(f"{url}/readyz")
    assert status == 200
    assert said["services"] == {name: "ready" for name in SERVICES if name != "gateway"}


def test_status_for_programs(everloop: Everloop) -> None:
    components = json.loads(everloop("status", "--json").stdout)
    assert [each["name"] for each in components] == RUNNING
    for each in components:
        assert set(each) == {"name", "pid", "port", "state", "restarts"}
        assert (each["state"], each["restarts"]) == ("ready", 0)
        assert psutil.pid_exists(each["pid"])
        assert isinstance(each["port"], int) == (each["name"] in {"mongod", "nats-server", "gateway"})


def test_status_for_people(everloop: Everloop) -> None:
    shown = everloop("status")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in RUNNING)


def test_a_second_up_is_told_where_the_first_one_is(everloop: Everloop) -> None:
    refused = everloop("up", "--no-model")
    assert refused.returncode == 1
    assert "already runs" in refused.stderr
    assert Folder(everloop.data).state["url"] in refused.stderr
    assert "everloop down --data" in refused.stderr


def test_a_port_in_use_is_one_sentence(everloop: Everloop, tmp_path: Path) -> None:
    port = everloop.components()["gateway"]["port"]
    refused = Everloop(tmp_path)("up", "--no-model", "--port", str(port))
    assert refused.returncode == 1
    assert refused.stderr == (
        f"everloop: Port {port} is in use by another program. Stop that program, or choose another port with --port "
        "(0 takes a free one).\n"
    )


def test_the_first_credentials_are_for_the_owner_only(everloop: Everloop) -> None:
    credentials = Folder(everloop.data).credentials
    assert credentials.stat().st_mode & 0o777 == 0o600
    said = json.loads(credentials.read_text())
    assert set(said) == {"url", "email", "password", "api_key"}
    assert said["url"] == Folder(everloop.data).state["url"] + "/v4"


def test_a_service_knows_no_other_services_password(everloop: Everloop) -> None:
    passwords: dict[str, str] = Folder(everloop.data).secrets["bus_passwords"]
    for name in SERVICES:
        environment = psutil.Process(everloop.components()[name]["pid"]).environ()
        assert [user for user, password in passwords.items() if password in environment.values()] == [name]


def test_what_failed_for_good_can_be_sent_again(everloop: Everloop) -> None:
    assert everloop("dead", "list").stdout == "There are no dead letters.\n"
    folder = Folder(everloop.data)
    address = f"nats://{ports.HOST}:{everloop.components()['nats-server']['port']}"
    asyncio.run(put_into_dead(address, folder.secrets["bus_passwords"]["operator"]))
    (letter,) = json.loads(everloop("dead", "list", "--json").stdout)
    assert json.loads(everloop("dead", "show", "1").stdout)["payload"] == []
    sent = everloop("dead", "replay", str(letter["sequence"]))
    assert (sent.returncode, sent.stdout) == (0, "1 -> logs.intake\n")
    assert json.loads(everloop("dead", "list", "--json").stdout) == []


async def put_into_dead(address: str, password: str) -> None:
    client = await nats.connect(address, user="operator", password=password)
    await client.jetstream().publish("dead.logs", b"[]", headers={"Everloop-Reason": "a reason"})
    await client.close()


def test_doctor_finds_nothing_wrong(everloop: Everloop) -> None:
    looked = everloop("doctor")
    assert looked.returncode == 0, looked.stdout
    assert "mongod 6" in looked.stdout
    assert "A stack runs on this folder" in looked.stdout


@pytest.mark.parametrize("name", ["mongod", "nats-server", "generation"])
def test_a_killed_process_comes_back(everloop: Everloop, name: str) -> None:
    before = everloop.components()[name]
    os.kill(before["pid"], signal.SIGKILL)
    after = everloop.until(name, state="ready", restarts=1)
    assert after["pid"] != before["pid"]
    assert after["port"] == before["port"]


def test_a_killed_supervisor_leaves_no_orphan_and_the_next_up_finds_its_data(everloop: Everloop) -> None:
    before = everloop.components()
    pids = [each["pid"] for each in before.values()]
    first_key = json.loads(Folder(everloop.data).credentials.read_text())["api_key"]
    os.kill(everloop.supervisor, signal.SIGKILL)
    gone, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=5)
    assert not alive, gone
    assert everloop("status").returncode == 3

    started = everloop("up", "--detach", "--no-model")
    assert started.returncode == 0, started.stdout + started.stderr
    after = everloop.components()
    assert {name: each["port"] for name, each in after.items()} == {name: each["port"] for name, each in before.items()}
    assert first_key in started.stdout


def test_down_stops_everything_and_says_so_when_nothing_runs(everloop: Everloop) -> None:
    pids = [each["pid"] for each in everloop.components().values()]
    assert everloop("down").stdout == "Stopped.\n"
    assert not any(psutil.pid_exists(pid) for pid in pids)

    stopped = everloop("status", "--json")
    assert stopped.returncode == 3
    assert [(each["name"], each["state"], each["pid"]) for each in json.loads(stopped.stdout)] == [
        (name, "stopped", None) for name in RUNNING
    ]
    again = everloop("down")
    assert again.returncode == 0
    assert "Nothing runs" in again.stdout


def test_ctrl_c_stops_a_stack_in_the_foreground(everloop: Everloop) -> None:
    process = everloop.start("up", "--no-model")
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ctrl-C stops" in line:
                break
        pids = [each["pid"] for each in everloop.components().values()]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.communicate()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_status_where_nothing_ever_ran(tmp_path: Path) -> None:
    stopped = Everloop(tmp_path / "nothing")("status", "--json")
    assert stopped.returncode == 3
    assert [each["name"] for each in json.loads(stopped.stdout)] == list(NAMES)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("verb", ["up", "status", "down", "doctor", "dead list", "secret rotate"])
def test_a_file_as_data_folder_is_one_sentence(tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").touch()
    refused = Everloop(tmp_path / "file")(*verb.split())
    assert refused.returncode == 1
    assert str(tmp_path / "file") in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("verb", ["up", "status", "dead list", "secret rotate"])
def test_an_empty_data_folder_name_is_refused(verb: str) -> None:
    command = [sys.executable, "-P", "-m", "deploy.local.cli.main", *verb.split(), "--data", ""]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "it is empty" in refused.stderr


def test_status_before_the_supervisor_wrote_anything(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.create()
    assert folder.acquire_lock()
    shown = Everloop(tmp_path)("status")
    listed = json.loads(Everloop(tmp_path)("status", "--json").stdout)
    folder.release_lock()
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "It is starting" in shown.stdout
    assert {each["state"] for each in listed} == {"starting"}


def test_doctor_sees_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind((ports.HOST, 0))
        server.listen()
        folder = Folder(tmp_path)
        folder.ports = {"http": server.getsockname()[1]}
        looked = Everloop(tmp_path)("doctor")
    assert looked.returncode == 1
    assert f"Port {folder.ports['http']} is in use" in looked.stdout


async def test_the_local_model_answers_and_rests(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.create()
    weights = binaries.find_model_file()
    assert weights is not None
    port = ports.free_port(ports.HOST, {})
    ready = asyncio.Event()
    supervisor = Supervisor([local_model(weights, port, os.environ)], folder, "", lambda _: None)
    work = asyncio.create_task(supervisor.run(ready.set))
    try:
        await asyncio.wait_for(ready.wait(), 30)
        body = {"model": MODEL_NAME, "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}
        request = urllib.request.Request(
            f"http://{ports.HOST}:{port}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        _, answer = await asyncio.to_thread(get, request)
        assert answer["model"] == MODEL_NAME
        assert answer["choices"][0]["message"]["content"]
        assert 0 < answer["usage"]["completion_tokens"] <= 8

        process = psutil.Process(folder.state["components"][0]["pid"])
        before = sum(process.cpu_times()[:2])
        await asyncio.sleep(1)
        assert sum(process.cpu_times()[:2]) - before <= 0.05
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(work, 10)
