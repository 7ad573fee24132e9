"""Scores images, row by row: `predict_main.py --help`. What it does stands in cutpaste_tf/cli/predict.py."""

from data import console

if __name__ == "__main__":
    console.predict()
