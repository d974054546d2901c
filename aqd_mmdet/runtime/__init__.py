"""Runs compiled detectors. Imports with numpy alone."""

from .detector import Detector
from .prediction import Detections, Prediction

__all__ = ['Detections', 'Detector', 'Prediction']
