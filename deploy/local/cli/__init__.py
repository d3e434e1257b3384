"""The `everloop` command: one module a group of verbs, and what they print."""
