"""The model catalogue: limits, prices and unsupported features of models. Its data are the TOML files beside it."""

from services.generation.models.catalogue import MODELS, Costs, Model, Price, calculate_costs, find_model
from services.generation.models.limits import check_model_supports, count_remaining_output_tokens

__all__ = [
    "MODELS",
    "Costs",
    "Model",
    "Price",
    "calculate_costs",
    "check_model_supports",
    "count_remaining_output_tokens",
    "find_model",
]
