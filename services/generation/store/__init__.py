"""The collections of `generation`, a file per noun."""

from services.generation.store.projects import DEFAULT_ENVIRONMENT, Deployed, Environment, Store

__all__ = ["DEFAULT_ENVIRONMENT", "Deployed", "Environment", "Store"]
