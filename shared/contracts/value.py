"""The base of everything that messages contain."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable part of a message; unknown fields of a newer sender are ignored."""

    # What cannot be read may be secret, and the error goes into a service's log.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
