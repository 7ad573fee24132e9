"""What the command lines do, and a program may call. In: a `Config`, or a run's folder. Out: files.

Read `training.py` first, then `evaluating.py`; `reproducing` makes the paper's tables, `sheet` draws every task's
views. Each checks first what can be checked in seconds.
"""
