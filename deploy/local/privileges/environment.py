"""Which variables of the caller's environment each process is given. What is not named here stays with the caller."""

import json
from collections.abc import Iterable, Mapping

from services.authz.settings import Settings as AuthzSettings
from services.evaluation.settings import Settings as EvaluationSettings
from services.gateway.settings import Settings as GatewaySettings
from services.generation.providers.registry import PROVIDER_SPECS, environment_variables
from services.generation.settings import Settings as GenerationSettings
from services.logging.settings import LoggingSettings
from shared.settings import DatabaseSettings, EncryptionSettings, ServiceSettings

SETTINGS: dict[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "generation": GenerationSettings,
    "logging": LoggingSettings,
    "evaluation": EvaluationSettings,
    "authz": AuthzSettings,
}
"""By service. A service is given the settings it declares, and no other service's."""
DATABASES = tuple(name for name, settings in SETTINGS.items() if issubclass(settings, DatabaseSettings))
"""The services that have a database."""
ENCRYPTING = tuple(name for name, settings in SETTINGS.items() if issubclass(settings, EncryptionSettings))
"""The services that know EVERLOOP_SECRET."""

_PROCESS = frozenset(
    {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX"}
)
_PYTHON = frozenset({"PYTHONPATH"})
_TLS = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR"})
_PROXIES = frozenset(
    spelled
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for spelled in (name, name.lower())
)  # fmt: skip
"""Their addresses may hold a password: only who calls out is given them."""
_TRACE_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_TRACES = frozenset({
    *_TRACE_ENDPOINTS,
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "OTEL_PROPAGATORS", "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME",
    "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT", "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_SCHEDULE_DELAY",
    *(
        f"OTEL_EXPORTER_OTLP_{signal}{option}"
        for signal in ("", "TRACES_")
        for option in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY", "COMPRESSION", "HEADERS", "TIMEOUT")
    ),
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
})  # fmt: skip
"""What the OpenTelemetry SDK and the OTLP exporter read for traces; every service sends some."""


def of_program(caller: Mapping[str, str]) -> dict[str, str]:
    """For a server that is not ours: nothing that could be secret."""
    return _given(_PROCESS, caller)


def of_python(caller: Mapping[str, str]) -> dict[str, str]:
    """For a Python process that is no service."""
    return _given(_PROCESS | _PYTHON, caller)


def of_service(name: str, caller: Mapping[str, str]) -> dict[str, str]:
    """For one of our services: its settings, how to trace, and for generation the addresses and keys of providers."""
    names = _PROCESS | _PYTHON | _TLS | _TRACES | declared(SETTINGS[name])
    if any(caller.get(endpoint) for endpoint in _TRACE_ENDPOINTS):
        names |= _PROXIES
    if name == "generation":
        names |= _PROXIES | environment_variables(PROVIDER_SPECS.values()) | _key_variables(caller)
    return _given(names, caller)


def declared(settings: type[ServiceSettings]) -> frozenset[str]:
    """The variables that a class of settings reads."""
    prefix = settings.model_config.get("env_prefix", "")
    return frozenset(f"{prefix}{field}".upper() for field in settings.model_fields)


def _key_variables(caller: Mapping[str, str]) -> frozenset[str]:
    """Those that EVERLOOP_COMPATIBLE_PROVIDERS names. If that setting is wrong, generation says so when it starts."""
    try:
        providers = json.loads(caller.get("EVERLOOP_COMPATIBLE_PROVIDERS") or "{}")
    except ValueError:
        return frozenset()
    rows = providers.values() if isinstance(providers, dict) else ()
    named = (row.get("key_variable") for row in rows if isinstance(row, dict))
    return frozenset(name for name in named if isinstance(name, str))


def _given(names: Iterable[str], caller: Mapping[str, str]) -> dict[str, str]:
    return {name: caller[name] for name in sorted(names) if name in caller}
