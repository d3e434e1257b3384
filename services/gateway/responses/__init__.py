"""Responses that are sent as their clients read them: streams of events, and large bodies."""
