"""The paper's tables by one command. In: names of tables. Out: runs, carried out, and our tables beside the paper's.

Read `tables.py` first: which runs and evaluations a table is made of. `plan` lists the runs, `runner` does one of them,
in processes of its own, and `carrying_out` all, on this machine or by `ray_cluster`; `costs` says what that takes.
`summary` makes cells of their results and `writing` files of the cells; `published` has the paper's numbers.
"""
