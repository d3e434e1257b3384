"""API keys: make, list, revoke. Save, forget what was remembered, announce, reply."""

from datetime import UTC, datetime

from services.authz import keys
from services.authz.access import authorize_now, lower
from services.authz.deps import Deps
from shared import ids
from shared.bus import Router
from shared.contracts.access import AccessChanged, CreateKey, Key, Keys, ListKeys, NewKey, RevokeKey
from shared.contracts.message import Done
from shared.permissions import MANAGE_KEYS

router = Router[Deps]()


@router.request_handler(CreateKey)
async def create_key(command: CreateKey, deps: Deps) -> NewKey:
    """Make a key; its secret leaves in this answer and is not kept."""
    member = authorize_now(command.principal, await deps.store.get_organisation(command.organisation), MANAGE_KEYS)
    secret = keys.mint()
    key = keys.StoredKey(
        id=command.id,
        organisation=command.organisation,
        name=keys.named(command.name),
        hash=keys.hash_of(secret),
        tail=keys.tail_of(secret),
        role=keys.role_for(command.role, member.role),
        creator_id=member.user_id,
        created_at=datetime.now(UTC),
    )
    await deps.store.save_key(key)
    deps.callers.forget(key.organisation)
    await deps.bus.publish_event(
        AccessChanged(organisation=key.organisation, actor=command.actor, what="key created"),
        message_id=ids.derive("evt", "key created", key.id),
    )
    return NewKey(id=key.id, name=key.name, secret=secret, tail=key.tail, role=key.role)


@router.request_handler(ListKeys)
async def list_keys(query: ListKeys, deps: Deps) -> Keys:
    """Every key of the organisation, without what would let one use it."""
    organisation = await deps.store.get_organisation(query.organisation)
    authorize_now(query.principal, organisation, MANAGE_KEYS)
    found = await deps.store.list_keys(query.organisation)
    emails = await deps.store.get_emails({key.creator_id for key in found})
    return Keys(
        keys=[
            Key(
                id=key.id,
                name=key.name,
                tail=key.tail,
                role=lower(key.role, organisation.roles.get(key.creator_id, "Member")),
                creator_id=key.creator_id,
                creator=emails.get(key.creator_id, ""),
                created_at=key.created_at,
                revoked_at=key.revoked_at,
            )
            for key in found
        ]
    )


@router.request_handler(RevokeKey)
async def revoke_key(command: RevokeKey, deps: Deps) -> Done:
    """Make a key useless; revoking it again changes nothing."""
    authorize_now(command.principal, await deps.store.get_organisation(command.organisation), MANAGE_KEYS)
    await deps.store.revoke_key(command.organisation, command.id, datetime.now(UTC))
    deps.callers.forget(command.organisation)
    await deps.bus.publish_event(
        AccessChanged(organisation=command.organisation, actor=command.actor, what="key revoked"),
        message_id=ids.derive("evt", "key revoked", command.id),
    )
    return Done()
