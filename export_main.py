"""Exports a detector: `python export_main.py --help`. What it does stands in cutpaste_tf/cli/export.py."""

from data import console

if __name__ == "__main__":
    console.export()
