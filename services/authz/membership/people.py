"""What is said of people: their names."""

from shared.errors import Invalid

_MAX_LENGTH = 100


def validate_full_name(name: str | None) -> str | None:
    """Return `name` without surrounding white space, None for none. Raises Invalid (too long, not printable)."""
    stripped = (name or "").strip()
    if len(stripped) > _MAX_LENGTH or not stripped.isprintable():
        raise Invalid(f"full_name must have at most {_MAX_LENGTH} characters, all of them printable.")
    return stripped or None
