"""A new secret for the stack of a folder, and the end of the old ones. Neither while the stack runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from deploy.local.errors import Refused
from deploy.local.folder import Folder
from deploy.local.privileges.secrets import Secrets


def rotate(folder: Folder, caller: Mapping[str, str]) -> None:
    """Draw a secret to encrypt with; the one there was only decrypts from now on. Refused while a stack runs."""
    with _stopped(folder, caller):
        Secrets.of(folder).rotated().keep(folder)


def drop_old(folder: Folder, caller: Mapping[str, str]) -> int:
    """Forget the secrets that only decrypt; returns how many. Refused while one of them may be needed."""
    with _stopped(folder, caller):
        kept = Secrets.of(folder)
        if kept.fallbacks_in_use:
            raise Refused(
                "What is stored may still be encrypted with the old secret: no stack has come up since the rotation. "
                "Start it and stop it first: everloop up, everloop down."
            )
        kept.without_fallbacks().keep(folder)
        return len(kept.secret_fallbacks)


def note_ready(folder: Folder, caller: Mapping[str, str]) -> None:
    """A stack has come up: everything stored is encrypted with the newest secret, the folder's or the caller's."""
    if not caller.get("EVERLOOP_SECRET"):
        Secrets.of(folder).with_unused_fallbacks().keep(folder)


@contextmanager
def _stopped(folder: Folder, caller: Mapping[str, str]) -> Iterator[None]:
    if caller.get("EVERLOOP_SECRET"):
        raise Refused(
            "EVERLOOP_SECRET is set, so the folder's own secret is not used. Set the new secret there, and the old one "
            "as EVERLOOP_SECRET_FALLBACKS."
        )
    if not folder.secrets:
        raise Refused(f"{folder.path} holds no stack. Name its folder with --data, or start one: everloop up")
    if not folder.hold():
        raise Refused("Everloop runs on this folder. Stop it first: everloop down")
    try:
        yield
    finally:
        folder.let_go()
