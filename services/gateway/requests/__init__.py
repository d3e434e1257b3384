"""Request bodies of every route: size limits, JSON parsing, removal of provider keys, images stored apart."""
