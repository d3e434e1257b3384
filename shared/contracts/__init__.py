"""The messages between services. One file or folder per owning service; a class has its NATS subject.

Messages may be in flight while a newer version starts: fields are only ever added, as optional.
"""
