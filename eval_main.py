"""Scores images: `python eval_main.py --help`. What it does stands in cutpaste_tf/cli/evaluate.py."""

from data import console

if __name__ == "__main__":
    console.evaluate()
