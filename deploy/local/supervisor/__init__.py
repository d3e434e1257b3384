"""Starts processes, restarts those that end, and stops them in order; knows nothing of what they are."""
