"""Draw the secrets of a compose installation: `deploy/.env` and `deploy/credentials.json`, readable by you alone.

Needs nothing but Python. Run again it changes nothing: losing `EVERLOOP_SECRET` would lose the stored provider keys.
"""

import base64
import json
import os
import secrets
import string
import sys
from pathlib import Path

HERE = Path(__file__).parent
USERS = ("OPERATOR", "GATEWAY", "GENERATION", "LOGGING", "EVALUATION", "AUTHZ")


def letters(count: int) -> str:
    """Letters and digits, a letter first: NATS would read anything else as a number or as syntax."""
    rest = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(count - 1))
    return secrets.choice(string.ascii_letters) + rest


def write_once(path: Path, text: str, mode: int) -> None:
    """Create `path` with `mode`; leave it alone if it is there."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        sys.stdout.write(f"{path} is there already; it stays as it is\n")
        return
    with os.fdopen(handle, "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    sys.stdout.write(f"{path} written\n")


def main() -> None:
    """Write both files."""
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    passwords = [f"EVERLOOP_NATS_PASSWORD_{user}={letters(40)}" for user in USERS]
    write_once(HERE / ".env", "\n".join([f"EVERLOOP_SECRET={secret}", *passwords, ""]), 0o600)
    credentials = {
        "url": "http://127.0.0.1:8000/v4",
        "email": "admin@everloop.local",
        "password": secrets.token_urlsafe(18),
        "api_key": f"hl_{letters(48)}",
    }
    # The container reads it as another user; the folder it lies in is what keeps others of this machine out.
    write_once(HERE / "credentials.json", json.dumps(credentials, indent=2) + "\n", 0o644)


if __name__ == "__main__":
    main()
