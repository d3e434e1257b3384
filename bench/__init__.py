"""Load benchmark of a whole Everloop stack on this machine; see `python -m bench --help`."""
