"""The five services. This folder must never be on `sys.path`: `logging` here would hide the standard library's."""
