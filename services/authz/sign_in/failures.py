"""Records failed sign-ins in the audit logs of the organisations whose member was to be impersonated."""

import logging

from services.authz.store import StoredUser, Stores
from shared.audit import AuditOutbox, audit_entry
from shared.contracts.access.sessions import Browser
from shared.contracts.audit import AuditObject
from shared.contracts.principal import Principal
from shared.errors import Problem
from shared.mongo import Session

logger = logging.getLogger(__name__)


class FailedSignIns:
    """Writes an entry for each organisation of a person. Throttling bounds how many there are."""

    def __init__(self, stores: Stores, audit: AuditOutbox) -> None:
        self._stores = stores
        self._audit = audit

    async def record(self, user: StoredUser, browser: Browser) -> None:
        """Record a failure. It is written after the answer, whose time must not tell that there is such a person."""
        try:
            mine = await self._stores.organisations.list_memberships(user.id)
            entries = [
                audit_entry(
                    "sign_in.failed",
                    Principal(kind="member", organisation=one.organisation, address=browser.address or None),
                    one.organisation,
                    AuditObject(kind="member", id=user.id, name=user.email),
                )
                for one in mine
            ]

            async def nothing_else(_: Session) -> bool:
                return bool(entries)

            await self._audit.record(nothing_else, lambda _: entries)
        except Problem as problem:
            logger.warning("a failed sign-in could not be recorded: %s", problem.message)
