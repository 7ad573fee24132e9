"""train_main.py and eval_main.py with the tests' toy network: `toy_main.py train --data=... then eval --run_dir=...`.

LOGICAL_CPUS=2 gives TensorFlow two devices, and DIE_AFTER=7 kills the process, as `kill -9` does, when step 7 begins.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

import conftest  # noqa: E402  registers the network
from command_lines import command  # noqa: E402

from cutpaste_tf.backend import keras, tf  # noqa: E402

if count := int(os.environ.get("LOGICAL_CPUS", "0")):
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
if last := int(os.environ.get("DIE_AFTER", "0")):
    fit = keras.Model.fit
    steps = []

    class Death(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            steps.append(batch)
            if len(steps) > last:
                os.kill(os.getpid(), signal.SIGKILL)

    def doomed(self, *arguments, callbacks=(), **options):
        return fit(self, *arguments, callbacks=[*callbacks, Death()], **options)

    keras.Model.fit = doomed
assert conftest.TINY
words = sys.argv[1:]
while words:
    end = words.index("then") if "then" in words else len(words)
    if words[0] == "copy":
        shutil.copytree(*words[1:end])
    else:
        command(f"{words[0]}_main.py", *words[1:end])
    words = words[end + 1 :]
