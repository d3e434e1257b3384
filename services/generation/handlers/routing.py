"""Answers commands and queries about redirects and provider keys. A change is in effect from the next call on."""

from services.generation.deps import Deps
from shared import ids
from shared.bus import Router
from shared.contracts.generation.credentials import (
    DeleteProviderKey,
    ListProviderKeys,
    ProviderKey,
    ProviderKeys,
    SetProviderKey,
)
from shared.contracts.generation.routing import (
    DeleteRedirect,
    ListRedirects,
    Redirect,
    Redirects,
    RoutingChanged,
    SetRedirect,
)
from shared.contracts.message import Done
from shared.errors import Invalid

router: Router[Deps] = Router()


@router.answers(ListRedirects)
async def list_redirects(query: ListRedirects, deps: Deps) -> Redirects:
    """Return the redirects of the organisation by provider and model."""
    return Redirects(redirects=await deps.redirects.list_all(query.organisation))


@router.answers(SetRedirect)
async def set_redirect(command: SetRedirect, deps: Deps) -> Redirect:
    """Insert or replace the redirect of a model. Raises Invalid if it is empty or its target cannot be called."""
    redirect = await deps.redirects.set(command, sorted(deps.providers.names))
    await _publish(deps, command, "redirect set")
    return redirect


@router.answers(DeleteRedirect)
async def delete_redirect(command: DeleteRedirect, deps: Deps) -> Done:
    """Delete the redirect of a model. Raises NotFound if it has none."""
    await deps.redirects.delete(command)
    await _publish(deps, command, "redirect deleted")
    return Done()


@router.answers(ListProviderKeys)
async def list_provider_keys(query: ListProviderKeys, deps: Deps) -> ProviderKeys:
    """Return the names and tails of the organisation's provider keys."""
    return ProviderKeys(keys=await deps.credentials.list_keys(query.organisation))


@router.answers(SetProviderKey)
async def set_provider_key(command: SetProviderKey, deps: Deps) -> ProviderKey:
    """Insert or replace a provider key, which comes encrypted. Raises Invalid if no provider has a key of this name."""
    key_names = deps.providers.key_names
    if command.name not in key_names:
        raise Invalid(f"There is no provider key {command.name!r}; there are {', '.join(sorted(key_names))}.")
    key = await deps.credentials.set_key(command.organisation, command.name, command.sealed, command.principal)
    await _publish(deps, command, "key set")
    return key


@router.answers(DeleteProviderKey)
async def delete_provider_key(command: DeleteProviderKey, deps: Deps) -> Done:
    """Delete a provider key. Raises NotFound if there is none of this name."""
    await deps.credentials.delete_key(command.organisation, command.name, command.principal)
    await _publish(deps, command, "key deleted")
    return Done()


async def _publish(
    deps: Deps, command: SetRedirect | DeleteRedirect | SetProviderKey | DeleteProviderKey, what: str
) -> None:
    change = RoutingChanged(organisation=command.organisation, actor=command.actor, what=what)
    await deps.bus.publish_event(change, message_id=ids.mint("change"))
