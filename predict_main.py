"""Scores images, row by row: `python predict_main.py --help`."""

from cutpaste_tf.cli import predict

if __name__ == "__main__":
    predict.run()
