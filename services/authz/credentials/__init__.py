"""Secrets that prove who calls: API keys, passwords."""
