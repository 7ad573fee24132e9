"""From an image to the views that are told apart. In: uint8 images. Out: a tf.data stream of views and labels.

Read `proxy_tasks.py` first: a task makes the views of one image. `patches` samples and pastes, `color` jitters,
`pipeline` makes the endless stream. Every draw is a function of a seed, which is an argument.
"""
