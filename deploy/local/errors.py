"""What stops a stack from starting, told to the person at the terminal."""


class Refused(Exception):  # noqa: N818 - it is an answer: one plain sentence and the way out
    """Its message is printed as it is; the exit code is 1."""
