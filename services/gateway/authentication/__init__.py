"""Who sends a request: by API key, or by the cookie of a browser session."""
