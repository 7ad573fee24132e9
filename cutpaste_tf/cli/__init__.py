"""The commands. In: what the user typed. Out: a call of `commands`, or one line that says what is wrong.

Read `train.py` first: it defines its flags, and `run` is what train_main.py and cutpaste-train call. Each command's
module defines flags of its own, so that one process loads one of them. `flags` makes a flag of every setting, and the
help of all flags; `main` runs a command.
"""
