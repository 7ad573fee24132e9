"""Counts faults: kills, full disks, little memory, damaged files, and more; see `__main__.py`."""
