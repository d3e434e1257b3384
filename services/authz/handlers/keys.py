"""Answers commands and queries about API keys: save, drop cached principals, publish `AccessChanged`, reply."""

from datetime import UTC, datetime

from pydantic import JsonValue

from services.authz.credentials import keys
from services.authz.credentials.random_secrets import hash_secret
from services.authz.deps import Deps
from services.authz.membership.access import authorize_now, lower_role
from shared import ids
from shared.audit import audit_entry
from shared.bus import Router
from shared.contracts.access.authentication import AccessChanged
from shared.contracts.access.keys import CreateKey, Key, Keys, ListKeys, NewKey, RevokeKey
from shared.contracts.audit import AuditEntry, AuditObject
from shared.contracts.audit_actions import AuditAction
from shared.contracts.message import Done
from shared.contracts.permissions import MANAGE_KEYS

router = Router[Deps]()


@router.answers(CreateKey)
async def create_key(command: CreateKey, deps: Deps) -> NewKey:
    """Create a key and return it with its secret, of which only the hash is stored."""
    member = authorize_now(command.principal, await deps.stores.organisations.get(command.organisation), MANAGE_KEYS)
    secret, now = keys.generate_key(), datetime.now(UTC)
    key = keys.StoredKey(
        id=command.id,
        organisation=command.organisation,
        name=keys.validate_name(command.name),
        hash=hash_secret(secret),
        tail=keys.secret_tail(secret),
        role=keys.role_of_new_key(command.role, member.role),
        creator_id=member.user_id,
        created_at=now,
        expires_at=keys.validate_expiry(command.expires_at, now),
        projects=None if command.projects is None else tuple(command.projects),
    )
    await deps.audit.record(
        lambda session: deps.stores.keys.upsert(key, session), lambda key: _entry("api_key.created", command, key)
    )
    deps.callers.invalidate(key.organisation)
    await deps.bus.publish_event(
        AccessChanged(organisation=key.organisation, actor=command.actor, what="key created"),
        message_id=ids.derive("evt", "key created", key.id),
    )
    return NewKey(
        id=key.id,
        name=key.name,
        secret=secret,
        tail=key.tail,
        role=key.role,
        expires_at=key.expires_at,
        projects=command.projects,
    )


@router.answers(ListKeys)
async def list_keys(query: ListKeys, deps: Deps) -> Keys:
    """Return all keys of the organisation without secrets, each with the role in effect: its own or its creator's."""
    organisation = await deps.stores.organisations.get(query.organisation)
    authorize_now(query.principal, organisation, MANAGE_KEYS)
    stored_keys = await deps.stores.keys.list(query.organisation)
    emails = await deps.stores.users.get_emails({key.creator_id for key in stored_keys})
    return Keys(
        keys=[
            Key(
                id=key.id,
                name=key.name,
                tail=key.tail,
                role=lower_role(key.role, organisation.roles.get(key.creator_id, "Member")),
                creator_id=key.creator_id,
                creator=emails.get(key.creator_id, ""),
                created_at=key.created_at,
                revoked_at=key.revoked_at,
                expires_at=key.expires_at,
                last_used_at=key.last_used_at,
                projects=None if key.projects is None else list(key.projects),
            )
            for key in stored_keys
        ]
    )


@router.answers(RevokeKey)
async def revoke_key(command: RevokeKey, deps: Deps) -> Done:
    """Revoke a key; revoking it again changes nothing. Raises NotFound if there is no such key."""
    authorize_now(command.principal, await deps.stores.organisations.get(command.organisation), MANAGE_KEYS)
    await deps.audit.record(
        lambda session: deps.stores.keys.revoke(command.organisation, command.id, datetime.now(UTC), session),
        lambda key: _entry("api_key.revoked", command, key),
    )
    deps.callers.invalidate(command.organisation)
    await deps.bus.publish_event(
        AccessChanged(organisation=command.organisation, actor=command.actor, what="key revoked"),
        message_id=ids.derive("evt", "key revoked", command.id),
    )
    return Done()


def _entry(action: AuditAction, command: CreateKey | RevokeKey, key: keys.StoredKey) -> AuditEntry:
    """Return the entry of the audit log; a command that is repeated has one."""
    expires_at = key.expires_at and key.expires_at.isoformat()
    details: dict[str, JsonValue] = {"role": key.role} | ({"expires_at": expires_at} if expires_at else {})
    if key.projects is not None:
        details["project_ids"] = [*key.projects]
    return audit_entry(
        action,
        command.principal,
        command.organisation,
        AuditObject(kind="api_key", id=key.id, name=key.name),
        cause=[key.id],
        details=details,
    )
