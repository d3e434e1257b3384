"""Answers queries about the model catalogue."""

from services.generation import models
from services.generation.deps import Deps
from shared.bus import Router
from shared.contracts.generation.providers import ListModels, ModelInfo, Models

router: Router[Deps] = Router()


@router.answers(ListModels)
async def list_models(_query: ListModels, _deps: Deps) -> Models:
    """Return all models of the catalogue; one with aliases is in it once."""
    distinct = [dict.fromkeys(by_name.values()) for by_name in models.MODELS.values()]
    return Models(models=[_model_info(model) for of_provider in distinct for model in of_provider])


def _model_info(model: models.Model) -> ModelInfo:
    price, long_price = model.price, model.long_price
    return ModelInfo(
        provider=model.provider,
        name=model.name,
        aliases=list(model.aliases),
        kind=model.kind,
        context_tokens=model.context_tokens,
        output_tokens=model.output_tokens,
        prompt_usd=price and price.prompt,
        output_usd=price and price.output,
        cached_usd=price and price.cached,
        cache_write_usd=price and price.cache_write,
        long_prompt_tokens=model.long_prompt_tokens,
        long_prompt_usd=long_price and long_price.prompt,
        long_output_usd=long_price and long_price.output,
        lacks=sorted(model.lacks),
        retired=model.retired,
        replacement=model.replacement,
        source=model.source,
        checked=model.checked,
    )
