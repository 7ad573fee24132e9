"""The commands. In: flags. Out: a call of the command's function, or one line that says what is wrong.

Start with `train.py`: it defines its flags, and train_main.py and cutpaste-train call its `run`. Each command's module
defines its own flags, so a process loads only one of these modules. `flags` defines a flag for every setting and builds
the help for all flags; `main` runs a command.
"""
