"""What changes an existing database of authz, once (shared/migrations.py). One is appended, none is changed."""

from shared.migrations import Migration

MIGRATIONS: tuple[Migration, ...] = ()
