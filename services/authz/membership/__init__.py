"""Organisations, their members and roles, and who may change them."""
