"""CutPaste (Li et al., CVPR 2021): self-supervised anomaly detection and localization."""

import os

# Both must be set before TensorFlow is imported. oneDNN is off by default on CPUs without AVX-512,
# where it makes ResNet-18 training about three times faster. Level 3 hides start-up chatter (a machine
# without a GPU is told so as an error); what fails still raises.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
