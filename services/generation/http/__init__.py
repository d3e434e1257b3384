"""An HTTP client for addresses that callers name, guarded against server-side request forgery."""
