"""The HTTP server: uvicorn, with bounds on what a connection may send, take and hold before a request is whole."""
