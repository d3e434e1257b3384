"""The error that the `everloop` command prints for the person at the terminal."""


class CommandError(Exception):
    """Says why a verb cannot do its work, and what to do. Printed as it is; the exit code is 1."""
