"""The settings of a run: plain data. In: flags, JSON or a program's arguments. Out: a `Config` whose groups fit.

Read `config.py` first. A group of settings stands for each wing; `base` is what they share. They know the names that
can be chosen, and what has to be known of them to fill in what is left open; what the names stand for is in the wings.
Nothing but errors is imported here.
"""
