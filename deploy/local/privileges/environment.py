"""Selects the variables of the caller's environment that each process is given. No other variable is passed on."""

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
"""Settings class by service. A service is given the variables of its own."""
DATABASES = tuple(name for name, settings in SETTINGS.items() if issubclass(settings, DatabaseSettings))
"""Services that have a database."""
ENCRYPTING = tuple(name for name, settings in SETTINGS.items() if issubclass(settings, EncryptionSettings))
"""Services that are given EVERLOOP_SECRET."""

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
"""Their URLs may hold a password: only processes that make requests to the internet are given them."""
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
"""What the OpenTelemetry SDK and the OTLP exporter read for traces; every service exports traces."""


def program_environment(caller: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a server that is not ours: none that could be secret."""
    return _select(_PROCESS, caller)


def python_environment(caller: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a Python process that is not a service."""
    return _select(_PROCESS | _PYTHON, caller)


def service_environment(name: str, caller: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a service: its settings, those for traces, and for generation those of providers."""
    names = _PROCESS | _PYTHON | _TLS | _TRACES | settings_variables(SETTINGS[name])
    if any(caller.get(endpoint) for endpoint in _TRACE_ENDPOINTS):
        names |= _PROXIES
    if name == "authz" and caller.get("EVERLOOP_OIDC_ISSUER"):
        names |= _PROXIES
    if name == "generation":
        names |= _PROXIES | environment_variables(PROVIDER_SPECS.values()) | _compatible_key_variables(caller)
    return _select(names, caller)


def local_providers() -> dict[str, str]:
    """Return the variables that turn on the providers which run beside Everloop, at their usual addresses."""
    local = [spec for spec in PROVIDER_SPECS.values() if spec.is_local]
    return {spec.base_url_variable: spec.base_url for spec in local if spec.base_url_variable}


def settings_variables(settings: type[ServiceSettings]) -> frozenset[str]:
    """Return the names of the variables that a settings class reads."""
    prefix = settings.model_config.get("env_prefix", "")
    return frozenset(f"{prefix}{field}".upper() for field in settings.model_fields)


def _compatible_key_variables(caller: Mapping[str, str]) -> frozenset[str]:
    """Return each `key_variable` in EVERLOOP_COMPATIBLE_PROVIDERS; none if it is invalid, which generation reports."""
    try:
        providers = json.loads(caller.get("EVERLOOP_COMPATIBLE_PROVIDERS") or "{}")
    except ValueError:
        return frozenset()
    rows = providers.values() if isinstance(providers, dict) else ()
    names = (row.get("key_variable") for row in rows if isinstance(row, dict))
    return frozenset(name for name in names if isinstance(name, str))


def _select(names: Iterable[str], caller: Mapping[str, str]) -> dict[str, str]:
    return {name: caller[name] for name in sorted(names) if name in caller}
