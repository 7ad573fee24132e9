"""The networks. In: settings and classes. Out: `build.Networks`, from image to feature map, feature and logits.

Read `build.py` first. `backbones` is the dict of what there is: `resnet` and `efficientnet`; `weights` reads files of
pretrained weights without TensorFlow; `saliency` is LayerCAM, and the gradient that GradCAM takes as well. Keras 3
operations throughout: it runs on TensorFlow and on JAX.
"""
