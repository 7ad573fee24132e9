"""Flags. In: what the user typed. Out: a call of `commands`, or one line that says what is wrong.

Read `train.py` first. `settings_flags` makes a flag of every setting, `main` runs a main.
"""
