"""Learning the representation. In: networks and images. Out: the same networks, trained.

Read `fitting.py` first: phases, loss and schedule. `callbacks` shows, logs and saves while Keras trains, `checkpoint`
knows what is saved, `tensorboard` what TensorBoard is told.
"""
