"""The base class of messages and of the values in them."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")

Array = Annotated[list[T], Field(fail_fast=True)]
"""A list whose validation stops at the first wrong element: each error takes memory, and callers send many elements."""


class Value(BaseModel):
    """An immutable part of a message; unknown fields of a newer sender are ignored."""

    # An invalid value may be secret, and the error goes into a service's log.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
