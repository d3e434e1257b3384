"""Email addresses in one form, by which people are found, and the domains of them."""

import email_validator

from shared.errors import Invalid

email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
"""Those of RFC 6761, such as `local` and `test`, are what companies use in networks of their own."""


_PUBLIC_MAIL = frozenset(
    {
        "aol.com", "gmail.com", "gmx.de", "gmx.net", "googlemail.com", "hotmail.com", "icloud.com", "live.com",
        "mail.ru", "me.com", "outlook.com", "proton.me", "protonmail.com", "qq.com", "web.de", "yahoo.com", "yandex.ru",
        "163.com",
    }
)  # fmt: skip
"""Domains in which anybody gets an address: the largest, against a slip of the hand."""


def normalize_email(address: str, *, field: str = "email") -> str:
    """Return the address in lower case and normal form. Raises Invalid, naming `field`, if it is none.

    Domains that are not in the public DNS are fine: mail of a company's own network goes to such.
    """
    try:
        valid = email_validator.validate_email(address.strip(), check_deliverability=False, globally_deliverable=False)
    except email_validator.EmailNotValidError as error:
        raise Invalid(f"{field} is not an email address: {error}") from None
    return valid.normalized.lower()


def normalize_domain(domain: str, *, field: str = "trusted_domains") -> str:
    """Return a domain in lower case and normal form.

    Raises Invalid, naming `field`, if it is none, or one in which anybody gets an address.
    """
    candidate = domain.strip().removeprefix("@")
    try:
        normal = domain_of(normalize_email(f"someone@{candidate}"))
    except Invalid:
        raise Invalid(f"{field} holds {domain[:100]!r}, which is not a domain like example.com.") from None
    if normal in _PUBLIC_MAIL:
        raise Invalid(f"{field} holds {normal}, where anybody gets an address: everybody could join.")
    return normal


def domain_of(email: str) -> str:
    """Return the domain of a normal address."""
    return email.rpartition("@")[2]


def find_email(address: str) -> str:
    """Return the address in the form it would be stored in; itself if it is none, and so nobody's."""
    try:
        return normalize_email(address)
    except Invalid:
        return address.strip().lower()
