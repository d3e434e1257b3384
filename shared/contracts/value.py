"""The base class of messages and of the values in them."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable part of a message; unknown fields of a newer sender are ignored."""

    # An invalid value may be secret, and the error goes into a service's log.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
