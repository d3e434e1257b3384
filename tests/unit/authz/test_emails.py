"""Email addresses and domains in one form."""

import pytest

from services.authz.membership.emails import find_email, normalize_domain, normalize_email
from shared.errors import Invalid


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("Ada@Example.ORG", "ada@example.org"),
        ("  ada@example.org\n", "ada@example.org"),
        ("admin@everloop.local", "admin@everloop.local"),
        ("root@localhost", "root@localhost"),
        ("A@XN--BCHER-KVA.de", "a@bücher.de"),
    ],
)
def test_an_address_has_one_form(address: str, expected: str) -> None:
    assert normalize_email(address) == find_email(address) == expected


@pytest.mark.parametrize(
    "address", ["", "ada", "@example.org", "ada@", "a b@example.org", "ada@example.org\nBcc: eve@example.org", "a@b@c"]
)
def test_what_is_no_address_is_refused_with_the_name_of_the_field(address: str) -> None:
    with pytest.raises(Invalid, match=r"^owner is not an email address"):
        normalize_email(address, field="owner")
    assert find_email(address) == address.strip().lower()


def test_domains_are_taken_with_and_without_the_sign() -> None:
    assert normalize_domain("@Example.ORG") == normalize_domain("example.org ") == "example.org"


@pytest.mark.parametrize("domain", ["", "ada@example.org", "*.example.org", "exa mple.org", "https://example.org"])
def test_what_is_no_domain_is_refused(domain: str) -> None:
    with pytest.raises(Invalid, match="trusted_domains"):
        normalize_domain(domain)


def test_domains_in_which_anybody_gets_an_address_are_refused() -> None:
    with pytest.raises(Invalid, match="everybody could join"):
        normalize_domain("GMail.com")
