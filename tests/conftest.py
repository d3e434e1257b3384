"""Fixtures of all tests: one stack a process, the fake servers its providers are called at, and clients of its API."""

import json
import os
from collections.abc import Iterator

import httpx
import pytest

from tests import processes
from tests import stack as stacks
from tests.fake_servers import anthropic as fake_anthropic
from tests.fake_servers import bedrock as fake_bedrock
from tests.fake_servers import cohere as fake_cohere
from tests.fake_servers import gemini as fake_gemini
from tests.fake_servers import openai as fake_openai
from tests.fake_servers import replicate as fake_replicate
from tests.fake_servers import web as fake_web
from tests.fake_servers.openai import FakeOpenAI
from tests.fake_servers.server import FakeServer
from tests.fake_servers.web import FakeWebServer
from tests.sdk_scripts import SdkScripts

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
    return {
        "anthropic": fake_anthropic.start(),
        "bedrock": fake_bedrock.start(),
        "cohere": fake_cohere.start(),
        "google": fake_gemini.start(),
        "replicate": fake_replicate.start(),
    }


@pytest.fixture(scope="session")
def stack_environment(upstream: FakeOpenAI, provider_servers: dict[str, FakeServer]) -> dict[str, str]:
    """The settings of the stack."""
    return {
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "sk-from-the-environment",
        "EVERLOOP_OUTBOUND_ALLOW": "127.0.0.1",  # where the fake servers listen
        "ANTHROPIC_BASE_URL": provider_servers["anthropic"].url,
        "ANTHROPIC_API_KEY": "sk-ant-from-the-environment",
        "BEDROCK_BASE_URL": provider_servers["bedrock"].url,
        "AWS_BEARER_TOKEN_BEDROCK": "bedrock-from-the-environment",
        "COHERE_BASE_URL": provider_servers["cohere"].url,
        "COHERE_API_KEY": "co-from-the-environment",
        "GEMINI_BASE_URL": provider_servers["google"].url,
        "GEMINI_API_KEY": "AIza-from-the-environment",
        "REPLICATE_BASE_URL": provider_servers["replicate"].url,
        "REPLICATE_API_TOKEN": "r8-from-the-environment",
        # What does not come in time is waited for in tests of that alone.
        "EVERLOOP_HTTP_HEAD_SECONDS": "5",
        "EVERLOOP_HTTP_BODY_SECONDS": "5",
        "EVERLOOP_HTTP_WRITE_SECONDS": "5",
        "EVERLOOP_COMPATIBLE_PROVIDERS": json.dumps({"house": {"base_url": upstream.url, "lacks": ["tools"]}}),
    }


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
