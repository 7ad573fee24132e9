"""Scores images: `python eval_main.py --help`."""

from cutpaste_tf.cli import evaluate

if __name__ == "__main__":
    evaluate.run()
