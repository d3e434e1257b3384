"""Used by every service: the contracts (messages between services), the bus, and what else a process is built on."""
