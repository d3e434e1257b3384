"""What handlers work with; made once in `main.py`."""

from dataclasses import dataclass

from services.authz.access_changes import AccessChanges
from services.authz.callers import CallerCache
from services.authz.credentials.passwords import PasswordHashing
from services.authz.last_uses import LastUses
from services.authz.mail.mailer import Mailer
from services.authz.oidc.provider import OidcProvider
from services.authz.oidc.sign_in import OidcSignIn
from services.authz.settings import Settings
from services.authz.sign_in.accounts import Accounts
from services.authz.sign_in.attempts import Attempts
from services.authz.sign_in.failures import FailedSignIns
from services.authz.sign_in.joining import Joining
from services.authz.sign_in.sessions import BrowserSessions
from services.authz.store import Stores
from services.authz.store.rate_limits import RateLimitStore
from shared.audit import AuditOutbox
from shared.bus import Bus


@dataclass(frozen=True)
class Deps:
    """The service's own things."""

    bus: Bus
    settings: Settings
    stores: Stores
    audit: AuditOutbox
    callers: CallerCache
    changes: AccessChanges
    key_uses: LastUses
    session_uses: LastUses
    passwords: PasswordHashing
    attempts: Attempts
    rate_limits: RateLimitStore
    sessions: BrowserSessions
    failures: FailedSignIns
    accounts: Accounts
    joining: Joining
    mailer: Mailer
    oidc: OidcSignIn
    provider: OidcProvider
