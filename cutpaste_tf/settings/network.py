"""The network: backbone, input normalization, projection head, arithmetic."""

import dataclasses
from typing import NamedTuple

from cutpaste_tf.errors import InputError
from cutpaste_tf.settings.base import Settings, integers, setting


class BackboneFacts(NamedTuple):
    """What the settings need to know about a backbone.

    Attributes:
        transfer: whether training follows Appendix A.4 by default: two phases, with batch norm frozen.
        dilates: whether `--dense=fast` can dilate it: its convolutions have explicit padding, and no layer sees the
            whole image.
        drop_connect: whether it has layers that randomly skip a block's branch during training.
    """

    transfer: bool = False
    dilates: bool = False
    drop_connect: bool = False


BACKBONE_FACTS: dict[str, BackboneFacts] = {
    "resnet18": BackboneFacts(dilates=True),
    **{f"efficientnet_b{size}": BackboneFacts(transfer=True, drop_connect=True) for size in range(8)},
}
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True)
class NetworkSettings(Settings):
    """The network (Section 4, A.1 and A.4)."""

    backbone: str = setting("resnet18", "Backbone network.", source="Section 4; A.4", choices=BACKBONE_FACTS)
    stem: str = setting(
        "auto",
        "ResNet stem. imagenet: 7x7/2 + max-pool; small: 3x3/1; auto: small for views below 128 px, but imagenet with"
        " --weights=imagenet.",
        source="DROC",
        choices=("auto", "imagenet", "small"),
    )
    weights: str = setting(
        "",
        "Pretrained weights: imagenet, which is downloaded once, or a file (ResNet-18: .npz or .safetensors with "
        "torchvision's names; EfficientNet: Keras' .h5); empty: train from scratch.",
        source="Section 4.3",
    )
    network_of: str = setting(
        "",
        "Folder of a finished run whose network is used as it is, without training: for the same training images and "
        "settings, apart from --add_normal, --patch_size, --combine and those that an evaluation can change. With "
        "--config=RUN and --add_normal: by default RUN.",
        source="ours",
    )
    # For Table 3 the paper names Keras' EfficientNet. Until TensorFlow 2.5, keras.applications divided its input by the
    # square root of ImageNet's standard deviation (tensorflow/tensorflow#49930): most probably the paper's network.
    normalization: str = setting(
        "auto",
        "Input normalization inside the model. imagenet: (x - mean) / std; imagenet_sqrt_std: (x - mean) / sqrt(std), "
        "as in Keras' EfficientNet until TensorFlow 2.5; auto: imagenet with --weights.",
        source="Keras",
        choices=("auto", "none", "imagenet", "imagenet_sqrt_std"),
    )
    # A.4, following the Keras guide it names: frozen layers keep their statistics, gamma and beta.
    freeze_batch_norm: str = setting(
        "auto",
        "Whether to freeze the backbone's batch norm; auto: in fine-tuning.",
        source="A.4",
        choices=("auto", "yes", "no"),
    )
    # A.4 does not mention it. The Keras guide it names freezes batch norm by `trainable = False`, which leaves
    # drop-connect on in both phases.
    drop_connect: bool = setting(
        False,
        "EfficientNet's own drop-connect during training: a block's branch is dropped at random, for the last block "
        "one time in five.",
        source="Keras",
    )
    precision: str = setting(
        "float32",
        "Arithmetic of the networks; logits and features are always float32. mixed_float16 scales the loss.",
        choices=PRECISIONS,
    )
    head_dims: tuple[int, ...] = setting(
        (512, 128),
        "Widths of the projection head's layers.",
        source="Section 4; our widths",
        convert=integers("head_dims", "512,128"),
    )

    def check(self) -> None:
        """Checks that the head has layers, and that the backbone supports the settings."""
        if self.drop_connect and not self.facts.drop_connect:
            raise InputError(f"--drop_connect: {self.backbone} has none; it is only for EfficientNet.")
        if not self.head_dims or min(self.head_dims) < 1:
            raise InputError(f"--head_dims={self.head_dims} must be one or more positive widths, such as 512,128.")

    @property
    def facts(self) -> BackboneFacts:
        """The facts about the backbone."""
        return BACKBONE_FACTS[self.backbone]
