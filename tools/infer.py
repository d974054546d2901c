"""Detect with a compiled detector: ``python -m aqd_mmdet.runtime``."""

from aqd_mmdet.runtime.__main__ import main

if __name__ == '__main__':
    main()
