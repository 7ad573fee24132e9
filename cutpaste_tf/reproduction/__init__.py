"""Reproduces the paper's tables with one command. In: names of tables. Out: runs, and our tables beside the paper's.

Start with `tables.py`: the runs and evaluations that each table needs. `plan` lists the runs. `runner` executes one run
in separate processes; `carrying_out` executes all of them, on this machine or through `ray_cluster`. `costs` estimates
what that takes. `summary` turns results into cells and `writing` writes them; `published` has the paper's numbers.
"""
