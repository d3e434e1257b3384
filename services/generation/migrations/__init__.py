"""What changes an existing database of generation, once (shared/migrations.py). One is appended, none is changed."""

from services.generation.migrations import m0001_drop_superseded_indexes
from shared.migrations import Migration

MIGRATIONS: tuple[Migration, ...] = (Migration(1, "drop superseded indexes", m0001_drop_superseded_indexes.run),)
