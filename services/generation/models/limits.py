"""Limits of models: refuses unsupported requests before anything is sent; counts the tokens left for an answer."""

from services.generation.models import tokens
from services.generation.models.catalogue import find_model
from services.generation.models.features import check_features
from services.generation.models.request import ModelRequest
from shared.errors import Invalid

_CUSTOM_NAMES = frozenset({"openai_azure"})
"""Providers whose models have names their owners chose: good enough to guess a price from, not to refuse a request."""


def check_model_supports(request: ModelRequest) -> None:
    """Raise Invalid, naming the model and the remedy, if the model is known not to support something in the request.

    A model that is not in the catalogue is never refused, nor is a long prompt: our count may be an estimate.
    """
    config = request.config
    model = find_model(config.provider, config.model)
    if model is None or config.provider in _CUSTOM_NAMES:
        return
    if request.messages is not None and model.kind == "complete":
        raise Invalid(
            f"The model {config.model!r} cannot chat: it completes a prompt. Use a config with endpoint 'complete', or "
            "choose another model."
        )
    check_features(request, model.lacks, f"The model {config.model!r}")


def count_remaining_output_tokens(request: ModelRequest) -> int | None:
    """Return how many tokens the answer may have: the model's longest answer, or what the prompt leaves of its context.

    At least 1; None if the model's limits are not known. The prompt is counted only if its length in bytes does not
    already show that there is room for the longest answer.
    """
    model = find_model(request.config.provider, request.config.model)
    if model is None:
        return None
    if model.context_tokens is None:
        return model.output_tokens
    longest = model.output_tokens or model.context_tokens
    if model.context_tokens - tokens.prompt_tokens_upper_bound(request) >= longest:
        return longest
    return max(1, min(longest, model.context_tokens - tokens.count_prompt_tokens(request)))
