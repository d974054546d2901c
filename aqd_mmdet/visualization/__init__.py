from .detections import Box, draw_comparison

__all__ = ['Box', 'draw_comparison']
