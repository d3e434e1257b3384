"""Every setting can be found by the one who runs Everloop."""

import importlib
import inspect
import re

import pytest

from deploy.local.privileges import mongo_users
from deploy.local.privileges.secrets import MONGO_USERS
from shared.settings import DatabaseSettings, EncryptionSettings, ServiceSettings
from tests.architecture.tree import ROOT

SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/settings.py"))
LISTED = set(
    re.findall(r"^#?((?:EVERLOOP|OTEL)_[A-Z_]+)=", (ROOT / "deploy" / "env.example").read_text(), re.MULTILINE)
)


def _settings(service: str) -> type[ServiceSettings]:
    module = importlib.import_module(f"services.{service}.settings")
    found = [
        cls
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, ServiceSettings) and cls.__module__ == module.__name__
    ]
    assert len(found) == 1, f"services/{service}/settings.py has one class of settings"
    return found[0]


def _names(service: str) -> set[str]:
    return {f"EVERLOOP_{field.upper()}" for field in _settings(service).model_fields}


def test_every_service_has_settings() -> None:
    assert SERVICES == ["authz", "evaluation", "gateway", "generation", "logging"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_is_in_the_example(service: str) -> None:
    assert _names(service) <= LISTED


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_at_most_25_settings_of_its_own(service: str) -> None:
    shared = set[str]().union(*(each.model_fields for each in (DatabaseSettings, EncryptionSettings)))
    assert len(_settings(service).model_fields.keys() - shared) <= 25


def test_the_secret_has_no_default_and_two_services_know_it() -> None:
    fields = {service: _settings(service).model_fields for service in SERVICES}
    assert [service for service in SERVICES if "secret" in fields[service]] == ["gateway", "generation"]
    assert fields["gateway"]["secret"].is_required()
    assert fields["generation"]["secret"].is_required()


def test_nothing_is_in_the_example_that_nobody_reads() -> None:
    read = set[str]().union(*(_names(service) for service in SERVICES))
    for config in ("nats.conf", "nats-cluster.conf"):
        read |= {
            f"EVERLOOP_{rest}" for rest in re.findall(r"\$EVERLOOP_([A-Z_]+)", (ROOT / "deploy" / config).read_text())
        }
    read |= mongo_users.to_environment("", dict.fromkeys(MONGO_USERS, ""), "").keys()
    assert {setting for setting in LISTED if setting.startswith("EVERLOOP_")} <= read
