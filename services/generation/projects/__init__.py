"""Projects, their config versions, environments and deployments."""
