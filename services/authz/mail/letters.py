"""The texts of mails. Links carry their token behind `#`, which no browser sends: it is in no log of a server."""

from services.authz.mail.mailer import Mail

INVITE_PATH = "/invite#"
RESET_PATH = "/reset-password#"


def invite_link(public_url: str | None, token: str) -> str:
    """Return where an invite is accepted; only the path if the public address is not configured."""
    return f"{public_url or ''}{INVITE_PATH}{token}"


def invite_mail(to: str, organisation: str, invited_by: str, link: str) -> Mail:
    """Return the mail of an invite; `invited_by` is empty if its person asked for it."""
    why = f"{invited_by} invites you" if invited_by else "You asked"
    return Mail(
        to,
        f"Join {organisation} on Everloop",
        f"{why} to join {organisation} on Everloop.\n\n"
        f"Open this link within 7 days:\n\n{link}\n\n"
        "It works once. If you did not expect it, do nothing.\n",
    )


def reset_mail(to: str, public_url: str, token: str) -> Mail:
    """Return the mail with a link to choose another password."""
    return Mail(
        to,
        "Choose a new password for Everloop",
        "Somebody, hopefully you, asked for a new password of your Everloop account.\n\n"
        f"Open this link within an hour:\n\n{public_url}{RESET_PATH}{token}\n\n"
        "It works once. If it was not you, do nothing: your password stays as it is.\n",
    )
