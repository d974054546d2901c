"""Compares the engine's speed with other engines on one machine in one run."""
