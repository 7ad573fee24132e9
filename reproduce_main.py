"""Reproduces tables of the paper: `python reproduce_main.py --help`."""

from cutpaste_tf.cli import reproduce

if __name__ == "__main__":
    reproduce.run()
