"""Serves a detector over HTTP: `python serve_main.py --help`."""

from cutpaste_tf.cli import serve

if __name__ == "__main__":
    serve.run()
