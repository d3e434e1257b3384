"""Pydantic models of HTTP requests and responses, converted to and from bus messages; one file per route file."""
