"""From images to the views that the network classifies. In: uint8 images. Out: a tf.data stream of views and labels.

Start with `proxy_tasks.py`: a task makes the views of one image. `patches` samples and pastes patches, `color` jitters
colors, and `pipeline` makes the endless stream. All randomness is a function of a seed, which is an argument.
"""
