"""The settings of a run. In: flags, JSON or a program's arguments. Out: a `Config` whose groups fit each other.

Read `config.py` first. A group of settings stands beside the dict that it chooses from, in the wings below; what
chooses from none, because it is for the wings above, stands here: `schedule` and `scoring`.
"""
