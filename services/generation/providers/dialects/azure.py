"""Azure OpenAI: OpenAI's language at the URLs of a customer's deployments.

https://learn.microsoft.com/azure/ai-foundry/openai/reference, 2026-11
"""

import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from services.generation.models.request import ModelRequest
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

ENDPOINT_VARIABLE = "AZURE_OPENAI_ENDPOINT"
VERSION_VARIABLE = "AZURE_OPENAI_API_VERSION"
HOSTS_VARIABLE = "EVERLOOP_AZURE_HOSTS"
MISSING_ENDPOINT = (
    f"set {ENDPOINT_VARIABLE} where Everloop runs, or send provider_api_keys.openai_azure_endpoint with the request."
)
"""Remedy in the error when there is no endpoint."""
DEFAULT_VERSION = "2024-10-21"
"""The newest dated version that is generally available; later ones are previews or have no date."""

_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com", ".azure-api.net")
_DEPLOYMENT = re.compile(r"[\w-][\w.-]*")
_FIELD = "provider_api_keys.openai_azure_endpoint"


def check(config: ModelConfig) -> None:
    """Raises Invalid if the model cannot be the name of a deployment."""
    if not _DEPLOYMENT.fullmatch(config.model):
        raise Invalid(
            f"{config.model!r} cannot be a deployment of Azure OpenAI: model is its name, made of letters, digits, "
            "'-', '_' and '.'."
        )


def find_base_url(environment: Mapping[str, str], keys: Mapping[str, str]) -> str | None:
    """Return endpoint and API version as one URL; None if there is no endpoint.

    A caller's endpoint must be one of Azure's, and come with the caller's key: the installation's own key is sent to
    the installation's own endpoint only. Raises Invalid.
    """
    endpoint = keys.get("openai_azure_endpoint")
    if endpoint:
        _check_endpoint(endpoint, environment.get(HOSTS_VARIABLE, ""))
        if not keys.get("openai_azure"):
            raise Invalid(f"{_FIELD} needs provider_api_keys.openai_azure, the key of that endpoint.")
    else:
        endpoint = environment.get(ENDPOINT_VARIABLE)
    if not endpoint:
        return None
    version = quote(environment.get(VERSION_VARIABLE) or DEFAULT_VERSION, safe="")
    return f"{endpoint.rstrip('/')}/openai?api-version={version}"


def _check_endpoint(endpoint: str, allowed: str) -> None:
    """Raise Invalid unless the endpoint is an https URL of Azure or of an allowed host: callers choose it (SSRF)."""
    hosts = {host.strip().lower() for host in allowed.split(",") if host.strip()}
    try:
        parts = urlsplit(endpoint)
        host, has_port = (parts.hostname or "").rstrip("."), parts.port not in {None, 443}
    except ValueError:
        parts, host, has_port = urlsplit(""), "", False
    public = host.endswith(_HOSTS) and not has_port
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    if parts.scheme != "https" or not plain or not (public or host in hosts):
        raise Invalid(
            f"{_FIELD} must be the https address of an Azure OpenAI resource, like https://name.openai.azure.com; "
            f"other hosts are allowed by name in {HOSTS_VARIABLE} where Everloop runs."
        )


def url(base_url: str, request: ModelRequest) -> str:
    """Return the URL, which has the deployment in its path."""
    endpoint, _, version = base_url.partition("?")
    deployment = quote(request.config.model, safe="")
    operation = "chat/completions" if request.messages is not None else "completions"
    return f"{endpoint}/deployments/{deployment}/{operation}?{version}"


def headers(key: str | None) -> dict[str, str]:
    """Return the key in Azure's own header."""
    return {"api-key": key} if key else {}
