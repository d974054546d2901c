"""Compiles trained detectors to programs of integers."""
