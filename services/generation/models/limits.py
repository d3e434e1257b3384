"""What a model cannot do is refused before anything is sent; how much it may still write is worked out."""

from services.generation.models import tokens
from services.generation.models.catalogue import find
from services.generation.models.features import refuse
from services.generation.models.request import ModelRequest
from shared.errors import Invalid

_OWN_NAMES = frozenset({"openai_azure"})
"""Providers whose models bear names their owners chose: a guess is good for a price, and not for a refusal."""


def refuse_impossible(request: ModelRequest) -> None:
    """Errors: Invalid, naming the model and what it cannot do.

    A model nobody knows is never refused, nor is a long prompt: it would only be counted by us.
    """
    config = request.config
    model = find(config.provider, config.model)
    if model is None or config.provider in _OWN_NAMES:
        return
    if request.messages is not None and model.kind == "complete":
        raise Invalid(
            f"The model {config.model!r} cannot chat: it completes a prompt. Use a config with endpoint 'complete', or "
            "choose another model."
        )
    refuse(request, model.lacks, f"The model {config.model!r}")


def rest_tokens(request: ModelRequest) -> int | None:
    """What the model may write: all it can, or what the prompt leaves of its context; at least 1. None: not known.

    The prompt is counted only when its length in bytes does not already say that there is room enough.
    """
    model = find(request.config.provider, request.config.model)
    if model is None:
        return None
    if model.context_tokens is None:
        return model.output_tokens
    longest = model.output_tokens or model.context_tokens
    if model.context_tokens - tokens.at_most(request) >= longest:
        return longest
    return max(1, min(longest, model.context_tokens - tokens.of_prompt(request)))
