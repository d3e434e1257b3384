"""What services say to one another. One file per owner; a class carries its subject.

Messages may be in flight while a newer version starts: fields are only ever added, as optional.
"""
