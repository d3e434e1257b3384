"""Canaille as a process, and a browser that signs in there: it follows redirects and fills in the login forms."""

import re
import time
from html import unescape
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.integration.servers import ROOT, Process, free_port

PUBLIC_URL = "http://127.0.0.1:8000"
CALLBACK = f"{PUBLIC_URL}/api/auth/oidc/callback"
CLIENT_SECRET = "a secret of the client"
_PASSWORD = "correct horse battery"
_MAX_STEPS = 10


class Provider(Process):
    """The provider's process, not started yet."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        python = ROOT / ".venv-oidc" / "bin" / "python"
        script = ROOT / "tests" / "fake_servers" / "oidc_provider.py"
        command = [str(python), str(script), str(self.port), CALLBACK, str(folder / "provider.sqlite")]
        super().__init__(command, folder / "provider.log")

    def settings(self, **more: str) -> dict[str, str]:
        """Return the environment of an authz that signs people in here."""
        return {
            "EVERLOOP_PUBLIC_URL": PUBLIC_URL,
            "EVERLOOP_OIDC_ISSUER": self.issuer,
            "EVERLOOP_OIDC_CLIENT_ID": "everloop",
            "EVERLOOP_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        } | more


class Callback(NamedTuple):
    """What the provider sends the browser back with."""

    state: str
    code: str
    issuer: str | None


def sign_in_at_provider(url: str, person: str) -> Callback:
    """Follow a browser from where Everloop sends it, through the login forms, to where it is sent back."""
    time.sleep(1)  # Canaille's access tokens of a person are the same within a second, and its database wants others
    with httpx.Client(timeout=20) as browser:
        response = browser.get(url)
        for _ in range(_MAX_STEPS):
            if response.is_redirect:
                target = response.url.join(response.headers["location"])
                if str(target).startswith(CALLBACK):
                    return Callback(target.params["state"], target.params["code"], target.params.get("iss"))
                response = browser.get(target)
            else:
                response = browser.post(response.url, data=_fill_in(response.text, person))
    raise AssertionError(f"the provider does not send the browser back: {response.text[:500]}")


def _fill_in(page: str, person: str) -> dict[str, str]:
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert token, page[:500]
    fields = {"csrf_token": unescape(token[1])}
    if 'name="login"' in page:
        fields["login"] = person
    if 'name="password"' in page:
        fields["password"] = _PASSWORD
    return fields
