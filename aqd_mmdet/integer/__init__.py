"""The compiler: a trained detector becomes a program of integers.

Importing this package imports nothing: `program`, `fixed_point` and `file`
need numpy alone, and the runtime takes them without PyTorch.
"""
