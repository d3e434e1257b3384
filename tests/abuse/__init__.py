"""Attacks and accidents: bounded tests, with an organisation beside them that must notice nothing."""
