"""Generated requests to every operation of the OpenAPI document, as each role, on a running stack (schemathesis)."""
