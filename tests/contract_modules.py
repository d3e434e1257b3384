"""The modules of `shared/contracts`, which tests look through for messages."""

import importlib
import pkgutil
from types import ModuleType

from shared import contracts


def contract_modules() -> list[ModuleType]:
    """Return every module below `shared.contracts`, those of its packages too."""
    found = pkgutil.walk_packages(contracts.__path__, f"{contracts.__name__}.")
    return [importlib.import_module(info.name) for info in found if not info.ispkg]
