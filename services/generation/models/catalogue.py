"""The catalogue: one row a model, found by any name a provider knows it by (docs/architecture/models.md)."""

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
    """USD per million tokens, without discounts for caches or batches."""

    prompt: float
    output: float


@dataclass(frozen=True)
class Model:
    """A row. None stands for what no source we know says."""

    provider: str
    name: str
    kind: Kind
    """`any`: it chats and completes."""
    source: str
    """Address of the page the figures are from."""
    checked: date
    """When they were last compared with it."""
    aliases: tuple[str, ...] = ()
    context_tokens: int | None = None
    """Prompt and answer together."""
    output_tokens: int | None = None
    """The longest answer."""
    price: Price | None = None
    long_prompt_tokens: int | None = None
    """A prompt of more tokens than this is charged at `long_price`, and so is its answer."""
    long_price: Price | None = None
    lacks: frozenset[Feature] = frozenset()
    retired: date | None = None
    """When its provider stops answering; it may lie ahead."""
    replacement: str | None = None
    """What its provider recommends instead."""


class Costs(NamedTuple):
    """USD."""

    prompt: float
    output: float


_DATED = re.compile(
    r"(?:[-@](?:\d{4}-\d\d-\d\d|\d\d-\d{4}|\d\d-\d\d|\d{3,8}|v\d+|latest|preview|exp|experimental|default)|:\d+k?)+"
)
"""What may follow a name without making it another model: `-2024-08-06`, `-0613`, `@20240229`, `-v1:0`,
`-preview-05-06`. A size or a version is another model with other prices: `-mini`, `-32k`, `.1`, `-4`."""
_REGION = re.compile(r"(?:[a-z]{2,6}|us-gov)\.(?=[a-z0-9]+\.)")
"""Of an inference profile of Bedrock: https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html"""
_MILLION = 1_000_000


def _load() -> dict[str, dict[str, Model]]:
    """Rows by provider and by every exact name."""
    known: dict[str, dict[str, Model]] = {}
    for file in sorted(resources.files(__package__).iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".toml"):
            data = tomllib.loads(file.read_text())
            rows = known.setdefault(data["provider"], {})
            for family in data["family"]:
                for name, fields in family["models"].items():
                    model = _model(data, family, name, dict(fields))
                    rows |= dict.fromkeys((name, *model.aliases), model)
    return known


def _model(data: dict[str, Any], family: dict[str, Any], name: str, fields: dict[str, Any]) -> Model:
    over = fields.pop("over", {})
    return Model(
        provider=data["provider"],
        name=name,
        kind=family["kind"],
        source=family.get("source", data["source"]),
        checked=family.get("checked", data["checked"]),
        aliases=tuple(fields.pop("aliases", ())),
        price=_price(fields),
        long_prompt_tokens=over.get("tokens"),
        long_price=_price(over),
        lacks=frozenset((*family.get("lacks", ()), *fields.pop("lacks", ()))),
        **fields,
    )


def _price(fields: dict[str, Any]) -> Price | None:
    prompt, output = fields.pop("prompt_usd", None), fields.pop("output_usd", None)
    return None if prompt is None or output is None else Price(prompt, output)


KNOWN = _load()
"""Every row by provider and by every exact name; a row with aliases stands there several times."""


@lru_cache(maxsize=4096)
def find(provider: str, name: str) -> Model | None:
    """The row of a model: by its name, an alias, or either with a date or version behind it.

    Also fine-tunes (`ft:BASE:…`), deployments of Azure OpenAI that are or end with a name of OpenAI's, and Bedrock's
    ids with a region before them. None: it is not known, and nothing about it is refused or charged.
    """
    name = name.lower()
    if provider == "openai_azure":
        return _named(KNOWN["openai"], name) or _ending(KNOWN["openai"], name)
    rows = KNOWN.get(provider, {})
    if provider == "bedrock":
        name = name.rpartition("/")[2]
        return _named(rows, name) or _named(rows, _REGION.sub("", name, count=1))
    if name.startswith("ft:"):
        return _fine_tune(rows, name.split(":")[1])
    return _named(rows, name)


def _named(rows: dict[str, Model], name: str) -> Model | None:
    if name in rows:
        return rows[name]
    bases = [known for known in rows if name.startswith(known) and _DATED.fullmatch(name[len(known) :])]
    return rows[max(bases, key=len)] if bases else None


def _ending(rows: dict[str, Model], name: str) -> Model | None:
    starts = [at for at in range(1, len(name)) if not name[at - 1].isalnum()]
    return next((model for at in starts if (model := _named(rows, name[at:]))), None)


def _fine_tune(rows: dict[str, Model], base: str) -> Model | None:
    """Its own row if there is one; else its base can do the same, at a price of its own that we do not know."""
    own, model = _named(rows, f"ft:{base}"), _named(rows, base)
    if own is None or model is None:
        return model and _without_price(model)
    return own


def _without_price(model: Model) -> Model:
    fields = vars(model) | {"price": None, "long_price": None, "long_prompt_tokens": None}
    return Model(**fields)


def costs(provider: str, name: str, usage: Usage) -> Costs | None:
    """What a call cost by the list price. None: the price is not known."""
    model = find(provider, name)
    if model is None or model.price is None:
        return None
    price = model.price
    if model.long_price and model.long_prompt_tokens and usage.prompt_tokens > model.long_prompt_tokens:
        price = model.long_price
    prompt, output = usage.prompt_tokens * price.prompt, usage.generation_tokens * price.output
    return Costs(prompt / _MILLION, output / _MILLION)
