"""The settings of a run: plain data. In: flags, JSON or a program's arguments. Out: a `Config` whose groups fit.

Start with `config.py`. There is a group of settings for each subpackage; `base` is what they share. They define the
names that can be chosen and the facts needed to fill in open values; what a name means is defined in its subpackage.
Only errors are imported here.
"""
