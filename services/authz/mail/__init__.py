"""Mail: what is written to people, and its way to the mail server."""
