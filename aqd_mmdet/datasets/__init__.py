from .digits import DigitScenes, write_digits
from .loading import LoadWholeImage

__all__ = ['DigitScenes', 'LoadWholeImage', 'write_digits']
