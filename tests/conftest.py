"""Fixtures of all tests: one stack a process, the fake servers its providers are called at, and clients of its API."""

import os
from collections.abc import Iterator

import httpx
import pytest

from tests import processes
from tests import stack as stacks
from tests.fake_servers import openai as fake_openai
from tests.fake_servers import web as fake_web
from tests.fake_servers.openai import FakeOpenAI
from tests.fake_servers.server import FakeServer
from tests.fake_servers.web import FakeWebServer
from tests.sdk_scripts import SdkScripts
from tests.stack_environment import stack_settings, start_provider_servers

_QUICK = ("architecture", "contract", "unit")
_RUN_BEGINS_HERE = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Mark the processes that this run starts, and remove Everloop's settings from the environment."""
    config.stash[_RUN_BEGINS_HERE] = processes.mark()
    for name in [name for name in os.environ if name.startswith("EVERLOOP_")]:
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the quick folders last, so that several workers end at about the same time."""
    quick = [stacks.ROOT / "tests" / folder for folder in _QUICK]
    items.sort(key=lambda item: any(item.path.is_relative_to(folder) for folder in quick))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End every process that the run started; one that its fixture did not stop fails the run."""
    if not session.config.stash[_RUN_BEGINS_HERE]:  # one of several workers
        return
    left = processes.end_marked()
    if left:
        print("\nLeft behind by the tests:", *left, sep="\n  ")
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def upstream() -> FakeOpenAI:
    """The fake server that the stack calls as OpenAI."""
    return fake_openai.start()


@pytest.fixture(scope="session")
def provider_servers() -> dict[str, FakeServer]:
    """The fake servers that the stack calls as the other providers, by name of the provider."""
    return start_provider_servers()


@pytest.fixture(scope="session")
def stack_environment(upstream: FakeOpenAI, provider_servers: dict[str, FakeServer]) -> dict[str, str]:
    """The settings of the stack."""
    return stack_settings(upstream, provider_servers)


@pytest.fixture(scope="session")
def stack(stack_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[stacks.Stack]:
    """A stack with its local model, started once a process."""
    running = stacks.start(tmp_path_factory.mktemp("stack"), environment=stack_environment)
    yield running
    running.stop()


@pytest.fixture
def openai(upstream: FakeOpenAI) -> FakeOpenAI:
    """The fake server for OpenAI, without requests and replies of earlier tests."""
    upstream.clear()
    return upstream


@pytest.fixture
def fake_providers(provider_servers: dict[str, FakeServer]) -> dict[str, FakeServer]:
    """The other provider_servers, without what earlier tests left."""
    for fake_server in provider_servers.values():
        fake_server.clear()
    return provider_servers


@pytest.fixture
def web() -> Iterator[FakeWebServer]:
    """A web server that the stack is allowed to call: for tools and images."""
    with fake_web.serve() as web:
        yield web


@pytest.fixture(scope="session")
def api(stack: stacks.Stack) -> Iterator[httpx.Client]:
    """An HTTP client of the v4 API with the first API key."""
    with httpx.Client(base_url=stack.url, headers={"X-API-KEY": stack.api_key}, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def sdk735(stack: stacks.Stack) -> SdkScripts:
    """Run scripts with humanloop 0.7.35, the last release of its generation."""
    return SdkScripts(".venv-sdk735", stack)


@pytest.fixture(scope="session")
def sdk700(stack: stacks.Stack) -> SdkScripts:
    """Run scripts with humanloop 0.7.0."""
    return SdkScripts(".venv-sdk700", stack)


@pytest.fixture(scope="session")
def sdk518(stack: stacks.Stack) -> SdkScripts:
    """Run scripts with humanloop 0.5.18, whose answers are dicts: the API before November 2023."""
    return SdkScripts(".venv-sdk518", stack)
