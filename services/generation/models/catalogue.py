"""The model catalogue: a `Model` is found by any name its provider accepts (docs/architecture/models.md)."""

import re
import tomllib
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib import resources
from typing import Any, Literal, NamedTuple

from services.generation.models.features import Feature
from shared.contracts.chat import Usage

Kind = Literal["chat", "complete", "any"]


@dataclass(frozen=True)
class Price:
    """List price in USD per million tokens, without discounts for batches."""

    prompt: float
    output: float
    cached: float | None = None
    """Of prompt tokens read from the provider's cache. None: no known source says it, and they cost what others do."""
    cache_write: float | None = None
    """Of prompt tokens written to the cache for five minutes."""


@dataclass(frozen=True)
class Model:
    """One model of one provider. None: no known source says it."""

    provider: str
    name: str
    kind: Kind
    """`any`: both chat and complete."""
    source: str
    """Address of the page the figures are from."""
    checked: date
    """Day they were last compared with `source`."""
    aliases: tuple[str, ...] = ()
    """Other names of the same model."""
    context_tokens: int | None = None
    """Length of the context window: prompt and answer together."""
    output_tokens: int | None = None
    """The most tokens an answer can have."""
    price: Price | None = None
    long_prompt_tokens: int | None = None
    """If the prompt has more tokens than this, prompt and answer are charged at `long_price`."""
    long_price: Price | None = None
    lacks: frozenset[Feature] = frozenset()
    """Features it does not support."""
    retired: date | None = None
    """Day its provider stops answering for it; past or future."""
    replacement: str | None = None
    """Name of the model its provider recommends instead."""


class Costs(NamedTuple):
    """Costs of one call, in USD."""

    prompt: float
    output: float


_VERSION_SUFFIX = re.compile(
    r"(?:[-@](?:\d{4}-\d\d-\d\d|\d\d-\d{4}|\d\d-\d\d|\d{3,8}|v\d+|latest|preview|exp|experimental|default)|:\d+k?)+"
)
"""What may follow a name without making it another model: `-2024-08-06`, `-0613`, `@20240229`, `-v1:0`,
`-preview-05-06`. A size or a version is another model with other prices: `-mini`, `-32k`, `.1`, `-4`."""
_REGION_PREFIX = re.compile(r"(?:[a-z]{2,6}|us-gov)\.(?=[a-z0-9]+\.)")
"""Of Bedrock's inference profiles: https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html"""
_MILLION = 1_000_000


def _load() -> dict[str, dict[str, Model]]:
    """Read the TOML files; return the models by provider and by every name and alias."""
    models: dict[str, dict[str, Model]] = {}
    for file in sorted(resources.files(__package__).iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".toml"):
            data = tomllib.loads(file.read_text())
            by_name = models.setdefault(data["provider"], {})
            for family in data["family"]:
                for name, fields in family["models"].items():
                    model = _model(data, family, name, dict(fields))
                    by_name |= dict.fromkeys((name, *model.aliases), model)
    return models


def _model(data: dict[str, Any], family: dict[str, Any], name: str, fields: dict[str, Any]) -> Model:
    long = fields.pop("over", {})
    return Model(
        provider=data["provider"],
        name=name,
        kind=family["kind"],
        source=family.get("source", data["source"]),
        checked=family.get("checked", data["checked"]),
        aliases=tuple(fields.pop("aliases", ())),
        price=_price(fields),
        long_prompt_tokens=long.get("tokens"),
        long_price=_price(long),
        lacks=frozenset((*family.get("lacks", ()), *fields.pop("lacks", ()))),
        **fields,
    )


def _price(fields: dict[str, Any]) -> Price | None:
    prompt, output = fields.pop("prompt_usd", None), fields.pop("output_usd", None)
    cached, cache_write = fields.pop("cached_usd", None), fields.pop("cache_write_usd", None)
    return None if prompt is None or output is None else Price(prompt, output, cached, cache_write)


MODELS = _load()
"""All models by provider, then by name and by each alias: a model with aliases is in there several times."""


@lru_cache(maxsize=4096)
def find_model(provider: str, name: str) -> Model | None:
    """Return the model of this name or alias, also if a date or version follows it; None if it is not in the catalogue.

    Also finds fine-tunes (`ft:BASE:…`), deployments of Azure OpenAI that are or end with a name of OpenAI's, and
    Bedrock's ids with a region before them. Of a model that is not in the catalogue nothing is refused and no cost is
    known.
    """
    name = name.lower()
    if provider == "openai_azure":
        return _find_by_name(MODELS["openai"], name) or _find_by_suffix(MODELS["openai"], name)
    models = MODELS.get(provider, {})
    if provider == "bedrock":
        name = name.rpartition("/")[2]
        return _find_by_name(models, name) or _find_by_name(models, _REGION_PREFIX.sub("", name, count=1))
    if name.startswith("ft:"):
        return _find_fine_tune(models, name.split(":")[1])
    return _find_by_name(models, name)


def _find_by_name(models: dict[str, Model], name: str) -> Model | None:
    """Return the model of this name, else the one with the longest name that only a date or version follows."""
    if name in models:
        return models[name]
    bases = [base for base in models if name.startswith(base) and _VERSION_SUFFIX.fullmatch(name[len(base) :])]
    return models[max(bases, key=len)] if bases else None


def _find_by_suffix(models: dict[str, Model], name: str) -> Model | None:
    """Return the model whose name the end of `name` is, from a word's beginning on: `team-a-gpt-4` is `gpt-4`."""
    starts = [at for at in range(1, len(name)) if not name[at - 1].isalnum()]
    return next((model for at in starts if (model := _find_by_name(models, name[at:]))), None)


def _find_fine_tune(models: dict[str, Model], base: str) -> Model | None:
    """Return the row for fine-tunes of `base`, else `base` without its price: fine-tunes have prices of their own."""
    own, model = _find_by_name(models, f"ft:{base}"), _find_by_name(models, base)
    if own is None or model is None:
        return model and _without_price(model)
    return own


def _without_price(model: Model) -> Model:
    fields = vars(model) | {"price": None, "long_price": None, "long_prompt_tokens": None}
    return Model(**fields)


def calculate_costs(provider: str, name: str, usage: Usage) -> Costs | None:
    """Return the costs of a call by the list price; None if the model or its price is not known."""
    model = find_model(provider, name)
    if model is None or model.price is None:
        return None
    price = model.price
    if model.long_price and model.long_prompt_tokens and usage.prompt_tokens > model.long_prompt_tokens:
        price = model.long_price
    prompt = usage.prompt_tokens * price.prompt
    prompt += usage.cached_tokens * _difference(price.cached, price.prompt)
    prompt += usage.cache_write_tokens * _difference(price.cache_write, price.prompt)
    return Costs(prompt / _MILLION, usage.generation_tokens * price.output / _MILLION)


def _difference(price: float | None, prompt_price: float) -> float:
    """Return what a token costs more than an ordinary one of the prompt."""
    return 0 if price is None else price - prompt_price
