"""Speaks HTTP, owns no data."""
