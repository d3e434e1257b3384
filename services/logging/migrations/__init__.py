"""Migrations of logging's database, each run once (shared/migrations.py). Append new ones; never change one."""

from services.logging.migrations import m0001_derive_fields_of_logs
from shared.migrations import Migration

MIGRATIONS: tuple[Migration, ...] = (Migration(1, "derive fields of logs", m0001_derive_fields_of_logs.run),)
