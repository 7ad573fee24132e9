"""Learning the representation. In: networks and images. Out: the same networks, trained.

Start with `fitting.py`: phases, loss and schedule. `callbacks` shows progress, logs and saves while Keras trains,
`checkpoint` defines what is saved, and `tensorboard` writes the files for TensorBoard. `choice` decides by held-out
normal images how a network's features are scored, and whether training paid.
"""
