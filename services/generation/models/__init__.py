"""What is known of models: limits, prices, what they cannot do. Data in the TOML files beside this one."""

from services.generation.models.catalogue import KNOWN, Costs, Model, Price, costs, find
from services.generation.models.limits import refuse_impossible, rest_tokens

__all__ = ["KNOWN", "Costs", "Model", "Price", "costs", "find", "refuse_impossible", "rest_tokens"]
