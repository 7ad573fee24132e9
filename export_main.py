"""Exports a detector: `python export_main.py --help`."""

from cutpaste_tf.cli import export

if __name__ == "__main__":
    export.run()
