"""CutPaste (Li et al., CVPR 2021): self-supervised anomaly detection and localization."""

import os

from cutpaste_tf import surroundings

# Both must be set before TensorFlow is imported. oneDNN is off by default on CPUs without AVX-512,
# where it makes ResNet-18 training about three times faster. Level 3 hides most of the start-up
# chatter, such as the "error" that there is no GPU; what fails still raises.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
surroundings.prepare()
