"""Runs compiled detectors. Imports with numpy alone."""

from .detector import Detections, Detector

__all__ = ['Detections', 'Detector']
