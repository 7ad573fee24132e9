"""Reproduces the paper's tables with one command. In: names of tables. Out: runs, and our tables beside the paper's.

Start with `tables.py`: the runs and evaluations that each table needs. `plan` lists the runs, `runner` executes one of
them in separate processes, and `carrying_out` all of them, on this machine or by `ray_cluster`; `costs` estimates what
that takes. `summary` turns results into cells, `writing` writes them; `published` has the paper's numbers.
"""
