"""Command lines in one process, as from a shell: starting a process for each takes seconds. Imports nothing heavy.

Run as a script, it answers lines of JSON (a list of words) by lines of JSON (exit code, stdout, stderr), with
TensorFlow and Keras made impossible to import: what is refused there was refused before they were loaded.
"""

import contextlib
import importlib
import io
import json
import sys

from absl import flags

_MODULES = {
    "train_main.py": "train",
    "eval_main.py": "evaluate",
    "predict_main.py": "predict",
    "export_main.py": "export",
    "serve_main.py": "serve",
    "reproduce_main.py": "reproduce",
}


def command(main, *arguments):
    """Runs train_main.py or eval_main.py; anything but success raises SystemExit."""
    defined = flags.FLAGS.flags_by_module_dict()
    others = "cutpaste_tf", "data.mvtec_ad"
    for flag in [flag for module, declared in defined.items() if module.startswith(others) for flag in declared]:
        if flag.name in flags.FLAGS:
            delattr(flags.FLAGS, flag.name)  # a process runs one of the commands, once
    for name in [name for name in sys.modules if name.startswith("cutpaste_tf.cli")]:
        del sys.modules[name]
    before, sys.argv = sys.argv, [main, *map(str, arguments)]
    try:
        importlib.import_module(f"cutpaste_tf.cli.{_MODULES[main]}").run()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.argv = before


def serve():
    """Answers until its input ends."""
    sys.modules["tensorflow"] = sys.modules["keras"] = None
    answers = sys.stdout
    for line in sys.stdin:
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                command(*json.loads(line))
            except SystemExit as end:
                code = end.code
            except BaseException as error:
                code = repr(error)
        print(json.dumps([code, out.getvalue(), err.getvalue()]), file=answers, flush=True)


if __name__ == "__main__":
    sys.path.insert(0, sys.path[0] + "/..")
    serve()
