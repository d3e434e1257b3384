"""Figures of the whole stack under load, on the machine at hand. `make bench` prints one JSON object."""
