"""Generates the secrets of a compose installation: `.env`, `mongo.key` and `secrets/credentials.json` in `deploy`.

Needs nothing but Python. Run again it generates only what is missing: losing `EVERLOOP_SECRET` would lose the stored
provider keys.
"""

import base64
import json
import os
import secrets
import string
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
NATS_USERS = ("OPERATOR", "GATEWAY", "GENERATION", "LOGGING", "EVALUATION", "AUTHZ")
MONGO_USERS = ("OPERATOR", "GENERATION", "LOGGING", "EVALUATION", "AUTHZ")


def random_alphanumeric(count: int) -> str:
    """Return letters and digits, a letter first: NATS would read anything else as a number or as syntax."""
    rest = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(count - 1))
    return secrets.choice(string.ascii_letters) + rest


def generate_variables() -> dict[str, str]:
    """Return a value for every variable of `deploy/.env`."""
    return {
        "EVERLOOP_SECRET": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        **{f"EVERLOOP_NATS_PASSWORD_{user}": random_alphanumeric(40) for user in NATS_USERS},
        "EVERLOOP_MONGO_KEY": random_alphanumeric(64),
        **{f"EVERLOOP_MONGO_PASSWORD_{user}": random_alphanumeric(40) for user in MONGO_USERS},
    }


def write_variables(path: Path, credentials: dict[str, str]) -> dict[str, str]:
    """Add to the file the variables it lacks; returns all of its variables.

    `EVERLOOP_BOOTSTRAP` holds the credentials of the first Admin, which authz is given as a secret of compose: its
    container runs as another user, who could not read a file that only its owner may read. It is replaced when the
    credentials are new, because people sign in with those of the file.
    """
    text = path.read_text() if path.exists() else ""
    existing = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    quoted = json.dumps(credentials, separators=(",", ":")).replace("'", r"\u0027")
    bootstrap = f"'{quoted}'"
    lines = text.splitlines()
    if existing.get("EVERLOOP_BOOTSTRAP", bootstrap) != bootstrap:
        lines = [line for line in lines if not line.startswith("EVERLOOP_BOOTSTRAP=")]
        del existing["EVERLOOP_BOOTSTRAP"]
    variables = generate_variables() | {"EVERLOOP_BOOTSTRAP": bootstrap}
    missing = {name: value for name, value in variables.items() if name not in existing}
    if missing:
        lines += [*(f"{name}={value}" for name, value in missing.items()), ""]
        write_private(path, "\n".join(lines))
    path.chmod(0o600)
    return existing | missing


def write_private(path: Path, text: str) -> None:
    """Write `path` with mode 0600 from its first byte; a reader sees the old text or the new one."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
    sys.stdout.write(f"{path} written\n")


def write_credentials(path: Path) -> dict[str, str]:
    """Create the file of the first Admin if it is missing, for its owner alone; returns its content."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.parent.chmod(0o700)
    earlier = FOLDER / "credentials.json"  # of an installation made before the folder
    if earlier.is_file() and not path.exists():
        earlier.replace(path)
        sys.stdout.write(f"{path} moved from {earlier}\n")
    if not path.exists():
        credentials = {
            "url": "http://127.0.0.1:8000/v4",
            "email": "admin@everloop.local",
            "password": secrets.token_urlsafe(18),
            "api_key": f"hl_{random_alphanumeric(48)}",
        }
        write_private(path, json.dumps(credentials, indent=2) + "\n")
    path.chmod(0o600)  # an earlier version made it readable
    content: dict[str, str] = json.loads(path.read_text())
    return content


def main() -> None:
    """Write the three files, each if it is missing or incomplete."""
    credentials = write_credentials(FOLDER / "secrets" / "credentials.json")
    variables = write_variables(FOLDER / ".env", credentials)
    key = FOLDER / "mongo.key"
    if not key.exists() or key.read_text() != variables["EVERLOOP_MONGO_KEY"]:
        write_private(key, variables["EVERLOOP_MONGO_KEY"])
    key.chmod(0o600)


if __name__ == "__main__":
    main()
