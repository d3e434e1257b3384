"""Which variables of the caller each process is given."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.local import services
from deploy.local.privileges import environment
from services.generation.providers.registry import PROVIDER_SPECS, environment_variables

ROOT = Path(__file__).parents[3]
STRAY = {
    "MY_LLM_TOKEN": "stray",
    "GITHUB_TOKEN": "stray",
    "HOME": "/home/user",
    "OTEL_MADE_UP": "stray",
    "EVERLOOP_MADE_UP": "stray",
    "EVERLOOP_NATS_PASSWORD_OPERATOR": "stray",
    "EVERLOOP_MONGO_PASSWORD_OPERATOR": "stray",
}
HARMLESS = {"PATH": "/usr/bin", "LANG": "C.UTF-8", "TZ": "UTC"}
_PROXY = {"https_proxy": "http://user:password@proxy"}


class Recording(dict[str, str]):
    """Remembers what was asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def test_every_service_is_known() -> None:
    assert tuple(environment.SETTINGS) == services.NAMES
    assert environment.DATABASES == ("generation", "logging", "evaluation", "authz")
    assert environment.ENCRYPTING == ("gateway", "generation")


@pytest.mark.parametrize("name", services.NAMES)
def test_what_nobody_declared_reaches_no_service(name: str) -> None:
    assert environment.service_environment(name, STRAY | HARMLESS) == HARMLESS


def test_servers_are_given_nothing_but_the_harmless() -> None:
    caller = STRAY | HARMLESS | _PROXY | {"OPENAI_API_KEY": "sk", "OTEL_EXPORTER_OTLP_HEADERS": "key=secret"}
    assert environment.program_environment(caller) == HARMLESS
    assert environment.python_environment(caller | {"PYTHONPATH": "here"}) == HARMLESS | {"PYTHONPATH": "here"}


@pytest.mark.parametrize("name", services.NAMES)
def test_a_service_is_given_its_own_settings_and_not_anothers(name: str) -> None:
    every = set[str]().union(*(environment.settings_variables(settings) for settings in environment.SETTINGS.values()))
    given = environment.service_environment(name, dict.fromkeys(every, "value"))
    assert given.keys() == environment.settings_variables(environment.SETTINGS[name]) | (
        {"EVERLOOP_AZURE_HOSTS"} if name == "generation" else set()
    )


@pytest.mark.parametrize("provider", PROVIDER_SPECS)
def test_a_provider_reads_no_variable_that_its_row_does_not_declare(provider: str) -> None:
    row = PROVIDER_SPECS[provider]
    for value in ("", "https://somewhere.example"):
        asked = Recording(dict.fromkeys(environment_variables([row]), value))
        if row.find_key:
            row.find_key(asked)
        if row.find_base_url:
            row.find_base_url(asked, {})
            row.find_base_url(asked, {"openai_azure_endpoint": "https://name.openai.azure.com", "openai_azure": "key"})
        assert asked.asked <= environment_variables([row])


def test_the_variables_of_providers_reach_generation_alone() -> None:
    caller = dict.fromkeys(environment_variables(PROVIDER_SPECS.values()), "sk") | {
        "EVERLOOP_COMPATIBLE_PROVIDERS": json.dumps(
            {"house": {"base_url": "http://x/v1", "key_variable": "HOUSE_TOKEN"}}
        ),
        "HOUSE_TOKEN": "sk-house",
    }
    assert {"OPENAI_API_KEY", "REPLICATE_API_TOKEN", "AWS_SESSION_TOKEN", "CO_API_KEY", "GOOGLE_API_KEY"} < set(caller)
    assert environment.service_environment("generation", caller) == caller
    for name in services.NAMES:
        if name != "generation":
            assert environment.service_environment(name, caller) == {}


@pytest.mark.parametrize("setting", ["", "{", "[]", '"x"', '{"a": 1}', '{"a": {"key_variable": 7}}'])
def test_a_wrong_setting_is_left_to_generation_to_report(setting: str) -> None:
    caller = {"EVERLOOP_COMPATIBLE_PROVIDERS": setting}
    assert environment.service_environment("generation", caller) == caller


def test_proxies_reach_who_calls_out() -> None:
    traced = _PROXY | {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector"}
    for name in services.NAMES:
        assert (environment.service_environment(name, _PROXY) == _PROXY) == (name == "generation")
        assert environment.service_environment(name, traced) == traced


def test_what_tracing_reads_reaches_every_service() -> None:
    """Asked of the SDK and the exporter themselves. What chooses other classes than ours, or is for metrics of the SDK,
    is left out."""
    script = """
import os, sys
asked = set()
class Recording(type(os.environ)):
    def __getitem__(self, name):
        asked.add(name)
        return super().__getitem__(name)
os.environ.__class__ = Recording
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from shared import telemetry
telemetry.setup("everloop-test")
telemetry.shutdown()
print("\\n".join(sorted(asked)))
"""
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER": "traceidratio"},
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    asked = set(re.findall(r"^OTEL_\w+$", found.stdout, re.MULTILINE))
    assert {"OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_TRACES_SAMPLER_ARG"} < asked
    given = environment.service_environment("logging", dict.fromkeys(asked, "value"))
    assert asked - given.keys() <= {
        "OTEL_PYTHON_CONTEXT", "OTEL_PYTHON_TRACER_PROVIDER", "OTEL_PYTHON_METER_PROVIDER",
        "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
        "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
    }  # fmt: skip
