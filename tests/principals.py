"""Principals that tests send requests for."""

from shared.contracts.principal import Principal, Role


def member(organisation: str, role: Role = "Admin") -> Principal:
    """Return a member of an organisation who made an API key."""
    return Principal(
        organisation=organisation, role=role, key_id="key_1", user_id=f"usr_{role}", email=f"{role.lower()}@example.org"
    )
