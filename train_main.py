"""Trains a detector: `python train_main.py --help`. What it does stands in cutpaste_tf/cli/train.py."""

from data import console

if __name__ == "__main__":
    console.train()
