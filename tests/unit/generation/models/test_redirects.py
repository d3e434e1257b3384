"""Redirects and fallbacks: which models are called for the one a config names, and which redirects are refused."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.generation.models.redirects import MAX_FALLBACKS, ModelRedirects, validate
from services.generation.store import RedirectStore
from shared.contracts.generation.projects import ModelConfig
from shared.contracts.generation.routing import DeleteRedirect, Redirect, SetRedirect, Target
from shared.contracts.principal import Principal
from shared.errors import Invalid, NotFound
from shared.mongo import Session
from tests.audit_outbox import as_outbox

NOW = datetime(2024, 5, 20, tzinfo=UTC)
PROVIDERS = ["anthropic", "openai"]
GPT_4, GPT_4O = Target(provider="openai", model="gpt-4"), Target(provider="openai", model="gpt-4o")
CLAUDE = Target(provider="anthropic", model="claude-2.1")
CONFIG = ModelConfig(provider="openai", model="gpt-4", endpoint="chat", temperature=0.3, max_tokens=7)


class MemoryRedirects:
    """RedirectStore in a dictionary; counts the reads."""

    def __init__(self) -> None:
        self.reads = 0
        self._redirects: dict[tuple[str, str, str], Redirect] = {}

    async def list_all(self, organisation: str) -> list[Redirect]:
        self.reads += 1
        return [redirect for key, redirect in sorted(self._redirects.items()) if key[0] == organisation]

    async def upsert(self, organisation: str, redirect: Redirect, _: Session) -> Redirect:
        self._redirects[organisation, redirect.asked.provider, redirect.asked.model] = redirect
        return redirect

    async def delete(self, organisation: str, asked: Target, _: Session) -> bool:
        return self._redirects.pop((organisation, asked.provider, asked.model), None) is not None


@pytest.fixture
def store() -> MemoryRedirects:
    return MemoryRedirects()


@pytest.fixture
def redirects(store: MemoryRedirects) -> ModelRedirects:
    return ModelRedirects(cast("RedirectStore", store), as_outbox())


def command(asked: Target = GPT_4, organisation: str = "tm_1", **fields: Any) -> SetRedirect:
    ada = Principal(kind="member", email="ada@example.org", organisation=organisation)
    return SetRedirect(**{"principal": ada, "asked": asked, "organisation": organisation} | fields)


def deletion() -> DeleteRedirect:
    ada = Principal(kind="member", email="ada@example.org", organisation="tm_1")
    return DeleteRedirect(principal=ada, asked=GPT_4)


def names(configs: list[ModelConfig]) -> list[str]:
    return [f"{config.provider}/{config.model}" for config in configs]


async def test_without_a_redirect_the_config_is_called_as_it_is(redirects: ModelRedirects) -> None:
    assert await redirects.resolve("tm_1", CONFIG) == [CONFIG]
    await redirects.set(command(GPT_4O, served=CLAUDE), PROVIDERS)
    assert await redirects.resolve("tm_1", CONFIG) == [CONFIG], "the redirect is another model's"


async def test_the_served_model_comes_first_and_then_the_fallbacks_in_their_order(redirects: ModelRedirects) -> None:
    await redirects.set(command(served=CLAUDE, fallbacks=[GPT_4O, CLAUDE]), PROVIDERS)
    resolved = await redirects.resolve("tm_1", CONFIG)
    assert names(resolved) == ["anthropic/claude-2.1", "openai/gpt-4o", "anthropic/claude-2.1"]


async def test_with_fallbacks_alone_the_model_itself_is_called_first(redirects: ModelRedirects) -> None:
    await redirects.set(command(fallbacks=[CLAUDE]), PROVIDERS)
    assert names(await redirects.resolve("tm_1", CONFIG)) == ["openai/gpt-4", "anthropic/claude-2.1"]


async def test_only_provider_and_model_of_the_config_change(redirects: ModelRedirects) -> None:
    await redirects.set(command(served=CLAUDE), PROVIDERS)
    (resolved,) = await redirects.resolve("tm_1", CONFIG)
    assert resolved == CONFIG.model_copy(update={"provider": "anthropic", "model": "claude-2.1"})
    assert (CONFIG.provider, CONFIG.model) == ("openai", "gpt-4")


async def test_a_redirect_of_the_served_model_is_not_followed(redirects: ModelRedirects) -> None:
    await redirects.set(command(served=GPT_4O), PROVIDERS)
    await redirects.set(command(GPT_4O, served=CLAUDE), PROVIDERS)
    assert names(await redirects.resolve("tm_1", CONFIG)) == ["openai/gpt-4o"]


async def test_the_same_name_at_another_provider_is_another_model(redirects: ModelRedirects) -> None:
    await redirects.set(command(Target(provider="anthropic", model="gpt-4"), served=CLAUDE), PROVIDERS)
    assert names(await redirects.resolve("tm_1", CONFIG)) == ["openai/gpt-4"]


async def test_another_organisation_has_redirects_of_its_own(redirects: ModelRedirects) -> None:
    await redirects.set(command(served=CLAUDE), PROVIDERS)
    assert names(await redirects.resolve("tm_2", CONFIG)) == ["openai/gpt-4"]
    assert await redirects.list_all("tm_2") == []


async def test_resolving_reads_the_store_once_for_every_model(
    redirects: ModelRedirects, store: MemoryRedirects
) -> None:
    for model in ("gpt-4", "gpt-4o", "gpt-4"):
        await redirects.resolve("tm_1", CONFIG.model_copy(update={"model": model}))
    assert store.reads == 1


async def test_a_change_holds_for_the_next_call(redirects: ModelRedirects) -> None:
    assert names(await redirects.resolve("tm_1", CONFIG)) == ["openai/gpt-4"]
    await redirects.set(command(served=CLAUDE), PROVIDERS)
    assert names(await redirects.resolve("tm_1", CONFIG)) == ["anthropic/claude-2.1"]
    await redirects.set(command(served=GPT_4O), PROVIDERS)
    assert names(await redirects.resolve("tm_1", CONFIG)) == ["openai/gpt-4o"]
    await redirects.delete(deletion())
    assert names(await redirects.resolve("tm_1", CONFIG)) == ["openai/gpt-4"]


@pytest.mark.parametrize(("organisation", "reads"), [("tm_1", 3), ("tm_2", 3), (None, 4)])
async def test_forgetting_reads_the_organisation_anew_or_all_of_them(
    redirects: ModelRedirects, store: MemoryRedirects, organisation: str | None, reads: int
) -> None:
    for each in ("tm_1", "tm_2"):
        await redirects.resolve(each, CONFIG)
    redirects.invalidate(organisation)
    for each in ("tm_1", "tm_2"):
        await redirects.resolve(each, CONFIG)
    assert store.reads == reads


async def test_what_is_set_is_listed_with_its_author(redirects: ModelRedirects) -> None:
    returned = await redirects.set(command(served=CLAUDE, fallbacks=[GPT_4O]), PROVIDERS)
    assert returned.model_copy(update={"changed_at": NOW}) == Redirect(
        asked=GPT_4, served=CLAUDE, fallbacks=[GPT_4O], changed_at=NOW, changed_by="ada@example.org"
    )
    assert await redirects.list_all("tm_1") == [returned]
    anonymous = await redirects.set(command(principal=None, served=CLAUDE), PROVIDERS)
    assert anonymous.changed_by == ""


async def test_deleting_an_unknown_redirect_is_not_found(redirects: ModelRedirects) -> None:
    with pytest.raises(NotFound, match=r"'gpt-4' of 'openai'"):
        await redirects.delete(deletion())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "send served"),
        ({"fallbacks": [CLAUDE] * (MAX_FALLBACKS + 1)}, "fallbacks may be 5 at most"),
        ({"served": Target(provider="mock", model="m")}, r"served\.provider 'mock' .* anthropic, openai"),
        ({"fallbacks": [CLAUDE, Target(provider="mock", model="m")]}, r"fallbacks\[1\]\.provider 'mock'"),
        ({"served": GPT_4}, "served is the model that is redirected"),
        ({"served": CLAUDE, "fallbacks": [GPT_4]}, r"fallbacks\[0\] is the model that is redirected"),
    ],
)
async def test_a_redirect_that_could_not_work_is_refused_by_its_field_and_not_stored(
    redirects: ModelRedirects, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        await redirects.set(command(**fields), PROVIDERS)
    assert await redirects.list_all("tm_1") == []


def test_as_many_fallbacks_as_allowed_are_accepted() -> None:
    validate(command(fallbacks=[CLAUDE] * MAX_FALLBACKS), PROVIDERS)
