"""Trains a detector: `python train_main.py --help`."""

from cutpaste_tf.cli import train

if __name__ == "__main__":
    train.run()
