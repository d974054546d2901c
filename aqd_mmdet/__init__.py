"""Object detectors that run on integers alone, trained with MMDetection.

Importing this package imports nothing else: the parts that need PyTorch and
MMDetection are named by the configs (``custom_imports``), so that whatever
only runs a compiled detector does not load them.
"""

__version__ = '0.1.0'
