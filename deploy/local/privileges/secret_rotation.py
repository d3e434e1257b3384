"""Replaces the secret that stored keys are encrypted with, and forgets the old ones, while the stack is stopped."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from deploy.local.command_line import command_line
from deploy.local.errors import CommandError
from deploy.local.folder import Folder
from deploy.local.privileges.secrets import Secrets


def rotate(folder: Folder, caller: Mapping[str, str]) -> None:
    """Generate a new secret to encrypt with; the one there was only decrypts from now on.

    Raises CommandError while a stack runs on the folder, or if `caller` (an environment) sets EVERLOOP_SECRET.
    """
    with _locked(folder, caller):
        Secrets.load_or_create(folder).rotated().save(folder)


def drop_old(folder: Folder, caller: Mapping[str, str]) -> int:
    """Delete the secrets that only decrypt; returns how many there were.

    Raises CommandError as `rotate` does, and while something may still be encrypted with one of them.
    """
    with _locked(folder, caller):
        secrets = Secrets.load_or_create(folder)
        if secrets.fallbacks_in_use:
            raise CommandError(
                "What is stored may still be encrypted with the old secret: no stack has come up since the rotation on "
                "the folder's own MongoDB. If you use a MongoDB of your own as well, start a stack on it first. Then "
                "start and stop one without EVERLOOP_MONGO_URL: "
                f"{command_line('up', folder)}, {command_line('down', folder)}"
            )
        secrets.without_fallbacks().save(folder)
        return len(secrets.secret_fallbacks)


def mark_reencrypted(folder: Folder, caller: Mapping[str, str]) -> None:
    """Record that everything stored is encrypted with the newest secret, as generation does before it is ready.

    Does nothing if `caller` sets EVERLOOP_SECRET or EVERLOOP_MONGO_URL, for then the folder's own secrets or its own
    database were not used.
    """
    if not caller.get("EVERLOOP_SECRET") and not caller.get("EVERLOOP_MONGO_URL"):
        Secrets.load_or_create(folder).with_unused_fallbacks().save(folder)


@contextmanager
def _locked(folder: Folder, caller: Mapping[str, str]) -> Iterator[None]:
    if caller.get("EVERLOOP_SECRET"):
        raise CommandError(
            "EVERLOOP_SECRET is set, so the folder's own secret is not used. Set the new secret there, and the old one "
            "as EVERLOOP_SECRET_FALLBACKS."
        )
    if not folder.secrets:
        raise CommandError(
            f"{folder.path} holds no stack. Name its folder with --data, or start one: {command_line('up', folder)}"
        )
    if not folder.acquire_lock():
        raise CommandError(f"Everloop runs on {folder.path}. Stop it first: {command_line('down', folder)}")
    try:
        yield
    finally:
        folder.release_lock()
