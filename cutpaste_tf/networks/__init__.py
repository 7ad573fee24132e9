"""The networks. In: settings and classes. Out: `build.Networks`, from image to feature map, feature and logits.

Start with `build.py`. `backbones` lists the backbones, which are in `resnet` and `efficientnet`. `weights` reads files
of pretrained weights without TensorFlow. `saliency` has LayerCAM, and the gradient that GradCAM uses too. Everything
uses Keras 3 operations and runs on TensorFlow and JAX.
"""
