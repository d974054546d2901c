"""Exports a compiled detector to formats of other runtimes."""
