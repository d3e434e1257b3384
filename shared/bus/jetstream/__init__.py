"""Streams of JetStream, what is appended to them, and their consumers and jobs."""
