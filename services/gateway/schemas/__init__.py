"""The public HTTP shapes and how they map to contracts; one file per route file."""
