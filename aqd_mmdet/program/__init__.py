"""The program of integers: its operators, its proofs and its file.

Importing this package imports nothing, and its modules need numpy alone.
"""
