"""The collections of `generation`, a file per noun."""

from services.generation.store.credentials import CredentialStore
from services.generation.store.projects import DEFAULT_ENVIRONMENT, Deployed, Environment, Store
from services.generation.store.redirects import RedirectStore
from services.generation.store.tools import StoredTool, ToolStore

__all__ = [
    "DEFAULT_ENVIRONMENT",
    "CredentialStore",
    "Deployed",
    "Environment",
    "RedirectStore",
    "Store",
    "StoredTool",
    "ToolStore",
]
