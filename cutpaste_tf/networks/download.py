"""Downloads pretrained weights once into Keras' cache and verifies them.

As for Hugging Face's own tools, HF_ENDPOINT names a mirror of huggingface.co, and HF_HUB_OFFLINE=1 forbids downloads.
"""

import logging
import os
from pathlib import Path
from typing import NamedTuple

import pooch
from requests.exceptions import RequestException

from cutpaste_tf import partials, progress
from cutpaste_tf.errors import InputError


class Remote(NamedTuple):
    """A file to download.

    Attributes:
        url: URL of the file.
        digest: hash of its content, such as `sha256:...`.
        name: its name in the cache.
    """

    url: str
    digest: str
    name: str

    @property
    def address(self) -> str:
        """Where to download it from: `url`, or a mirror of it."""
        mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
        return self.url.replace(_HUGGING_FACE, mirror) if mirror else self.url


_HUGGING_FACE = "https://huggingface.co"


# torchvision's IMAGENET1K_V1 weights as published by timm, BSD-3-Clause. Not keras-hub's resnet_18_imagenet, which was
# trained differently (timm's a1_in1k) and with different padding.
RESNET18 = Remote(
    f"{_HUGGING_FACE}/timm/resnet18.tv_in1k/resolve/bbd144b3e5565108aad885f145491d11bc6ce807/model.safetensors",
    "sha256:694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
    "resnet18.tv_in1k.safetensors",
)

# Without top, as published by Keras. The names are those in Keras' cache, so that existing downloads are reused.
EFFICIENTNET = {
    f"efficientnet_b{size}": Remote(
        f"https://storage.googleapis.com/keras-applications/efficientnetb{size}_notop.h5",
        f"md5:{md5}",
        f"efficientnetb{size}_notop.h5",
    )
    for size, md5 in enumerate(
        (
            "50bc09e76180e00e4465e1a485ddc09d",
            "74c4e6b3e1f6a1eea24c589628592432",
            "111f8e2ac8aa800a7a99e3239f7bfb39",
            "af6d107764bb5b1abb91932881670226",
            "ebc24e6d6c33eaebbd558eafbeedf1ba",
            "38879255a25d3c92d5e44e04ae6cec6f",
            "9ecce42647a20130c1f39a5d4cb75743",
            "cbcfe4450ddf6f3ad90b1b398090fe4a",
        )
    )
}


def cache() -> Path:
    """Keras' folder for downloaded weights."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


def fetch(remote: Remote, flag: str) -> Path:
    """Path of the file, which is downloaded atomically unless it is in the cache, and verified by its hash.

    Args:
        remote: the file.
        flag: the flag that requested it, for messages.

    Raises:
        InputError: it cannot be downloaded, or its hash is wrong; the message says how to download it by hand.
    """
    path = cache() / remote.name
    kind, _, digest = remote.digest.partition(":")
    if path.is_file() and pooch.file_hash(str(path), kind) == digest:
        return path
    by_hand = f"download {remote.address} by hand and put it at {path}, or give a weights file"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true"):
        raise InputError(f"--{flag}=imagenet is not in the cache, and HF_HUB_OFFLINE forbids downloads; {by_hand}.")
    progress.say(f"Downloading {remote.address} to {path}, once.")
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        partials.remove_left(path.parent)
        with partials.partial(path, is_folder=True) as folder:
            pooch.retrieve(
                remote.address,
                remote.digest,
                fname=remote.name,
                path=folder,
                progressbar=progress.shows_bars(),  # in a log, it would print ten lines per second
            )
            (folder / remote.name).replace(path)
    except ValueError:  # pooch has deleted the file
        raise InputError(
            f"--{flag}=imagenet: the downloaded file's hash does not match the published one, so it was deleted; try "
            f"again, or {by_hand}."
        ) from None
    except (RequestException, OSError) as error:
        reason = (error.strerror if not isinstance(error, RequestException) else None) or type(error).__name__
        raise InputError(f"--{flag}=imagenet could not be downloaded ({reason}); {by_hand}.") from None
    return path
