"""Redirects and provider keys of an organisation: set, listed, deleted."""

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


@router.request_handler(ListRedirects)
async def list_redirects(query: ListRedirects, deps: Deps) -> Redirects:
    """By provider and model."""
    return Redirects(redirects=await deps.redirects.list_all(query.organisation))


@router.request_handler(SetRedirect)
async def set_redirect(command: SetRedirect, deps: Deps) -> Redirect:
    """From the next call on."""
    redirect = await deps.redirects.set(command, sorted(deps.providers.names))
    await _publish(deps, command, "redirect set")
    return redirect


@router.request_handler(DeleteRedirect)
async def delete_redirect(command: DeleteRedirect, deps: Deps) -> Done:
    """From the next call on."""
    await deps.redirects.delete(command.organisation, command.asked)
    await _publish(deps, command, "redirect deleted")
    return Done()


@router.request_handler(ListProviderKeys)
async def list_provider_keys(query: ListProviderKeys, deps: Deps) -> ProviderKeys:
    """Without the keys."""
    return ProviderKeys(keys=await deps.credentials.list_keys(query.organisation))


@router.request_handler(SetProviderKey)
async def set_provider_key(command: SetProviderKey, deps: Deps) -> ProviderKey:
    """From the next call on."""
    known = deps.providers.key_names
    if command.name not in known:
        raise Invalid(f"There is no provider key {command.name!r}; there are {', '.join(sorted(known))}.")
    key = await deps.credentials.set_key(
        command.organisation, command.name, command.sealed, (command.actor and command.actor.email) or ""
    )
    await _publish(deps, command, "key set")
    return key


@router.request_handler(DeleteProviderKey)
async def delete_provider_key(command: DeleteProviderKey, deps: Deps) -> Done:
    """From the next call on."""
    await deps.credentials.delete_key(command.organisation, command.name)
    await _publish(deps, command, "key deleted")
    return Done()


async def _publish(
    deps: Deps, command: SetRedirect | DeleteRedirect | SetProviderKey | DeleteProviderKey, what: str
) -> None:
    change = RoutingChanged(organisation=command.organisation, actor=command.actor, what=what)
    await deps.bus.publish_event(change, message_id=ids.mint("change"))
