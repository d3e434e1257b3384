"""Messages and values owned by `authz`."""
