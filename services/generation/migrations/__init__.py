"""Migrations of generation's database, each run once (shared/migrations.py). Append new ones; never change one."""

from services.generation.migrations import m0001_drop_superseded_indexes
from shared.migrations import Migration

MIGRATIONS: tuple[Migration, ...] = (Migration(1, "drop superseded indexes", m0001_drop_superseded_indexes.run),)
