"""The settings of a stack for tests: every provider is a fake server, so nothing is called outside this machine."""

import json

from services.generation.providers.registry import PROVIDER_SPECS
from tests.fake_servers import anthropic, bedrock, cohere, gemini, replicate
from tests.fake_servers.openai import FakeOpenAI
from tests.fake_servers.server import FakeServer


def start_provider_servers() -> dict[str, FakeServer]:
    """Start the fake servers of all providers but OpenAI; return them by name of the provider."""
    return {
        "anthropic": anthropic.start(),
        "bedrock": bedrock.start(),
        "cohere": cohere.start(),
        "google": gemini.start(),
        "replicate": replicate.start(),
    }


def stack_settings(upstream: FakeOpenAI, provider_servers: dict[str, FakeServer]) -> dict[str, str]:
    """Return the environment of a stack that calls these servers; `upstream` is OpenAI, and whoever has no server."""
    remote = (spec.base_url_variable for spec in PROVIDER_SPECS.values() if not spec.is_local)
    return {variable: upstream.url for variable in remote if variable} | {
        "OPENAI_API_KEY": "sk-from-the-environment",
        "EVERLOOP_OUTBOUND_ALLOW": "127.0.0.1",  # where the fake servers listen
        "EVERLOOP_SERPAPI_URL": upstream.url,
        "EVERLOOP_PINECONE_URL": upstream.url,
        "EVERLOOP_EMBEDDINGS_URL": upstream.url,
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
        # All tests come from one address.
        "EVERLOOP_RATE_PER_ADDRESS_UNAUTHENTICATED": "1000000",
        # What does not come in time is waited for in tests of that alone.
        "EVERLOOP_HTTP_HEAD_SECONDS": "5",
        "EVERLOOP_HTTP_BODY_SECONDS": "5",
        "EVERLOOP_HTTP_WRITE_SECONDS": "5",
        "EVERLOOP_COMPATIBLE_PROVIDERS": json.dumps({"house": {"base_url": upstream.url, "lacks": ["tools"]}}),
    }
