"""The collections of `generation`, a file per noun."""

from services.generation.store.projects import DEFAULT_ENVIRONMENT, Deployed, Environment, Store
from services.generation.store.tools import StoredTool, ToolStore

__all__ = ["DEFAULT_ENVIRONMENT", "Deployed", "Environment", "Store", "StoredTool", "ToolStore"]
