"""Messages and values owned by `generation`."""
