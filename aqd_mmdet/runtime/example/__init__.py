"""A trained detector and a picture for it: README.md says what they are."""

from pathlib import Path

MODEL = Path(__file__).with_name('digits.aqd')
PICTURE = Path(__file__).with_name('digits.png')
