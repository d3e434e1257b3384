"""Migrations of logging's database, each run once (shared/migrations.py). Append new ones; never change one."""

from shared.migrations import Migration

MIGRATIONS: tuple[Migration, ...] = ()
