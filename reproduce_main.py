"""Reproduces tables: `python reproduce_main.py --help`; it is cutpaste_tf/cli/reproduce.py."""

from data import console

if __name__ == "__main__":
    console.reproduce()
