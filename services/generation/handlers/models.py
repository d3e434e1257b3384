"""The model catalogue, told to others."""

from services.generation import models
from services.generation.deps import Deps
from shared.bus import Router
from shared.contracts.generation.providers import ListModels, ModelInfo, Models

router: Router[Deps] = Router()


@router.request_handler(ListModels)
async def list_models(_query: ListModels, _deps: Deps) -> Models:
    """Each row once."""
    rows = [dict.fromkeys(rows.values()) for rows in models.MODELS.values()]
    return Models(models=[_info(model) for distinct in rows for model in distinct])


def _info(model: models.Model) -> ModelInfo:
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
        long_prompt_tokens=model.long_prompt_tokens,
        long_prompt_usd=long_price and long_price.prompt,
        long_output_usd=long_price and long_price.output,
        lacks=sorted(model.lacks),
        retired=model.retired,
        replacement=model.replacement,
        source=model.source,
        checked=model.checked,
    )
