"""Pretrained weights from the internet: fetched once, checked, kept in Keras' cache."""

import hashlib
import logging
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pooch
from requests.exceptions import RequestException

from cutpaste_tf.errors import InputError


class Remote(NamedTuple):
    """A file to fetch.

    Attributes:
        url: where it is.
        sha256: of its content.
        name: that it is kept under.
    """

    url: str
    sha256: str
    name: str


# torchvision's IMAGENET1K_V1 weights as timm publishes them, BSD-3-Clause. Not keras-hub's resnet_18_imagenet, which is
# another training (timm's a1_in1k) of a network that pads otherwise.
RESNET18 = Remote(
    "https://huggingface.co/timm/resnet18.tv_in1k/resolve/bbd144b3e5565108aad885f145491d11bc6ce807/model.safetensors",
    "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
    "resnet18.tv_in1k.safetensors",
)


def cache() -> Path:
    """Where Keras keeps downloaded weights."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


def fetch(remote: Remote, flag: str) -> Path:
    """The file, downloaded unless it is there: whole and with its hash, or not at all.

    Args:
        remote: the file.
        flag: that asked for it, for messages.

    Raises:
        InputError: it cannot be downloaded, or has another hash; the message says what to fetch by hand, and whereto.
    """
    path = cache() / remote.name
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == remote.sha256:
        return path
    by_hand = f"fetch {remote.url} by hand and put it at {path}, or name a file of weights"
    print(f"Downloading {remote.url} to {path}.", flush=True)
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        pooch.retrieve(
            remote.url,
            f"sha256:{remote.sha256}",
            fname=remote.name,
            path=path.parent,
            progressbar=sys.stderr.isatty(),  # in a log it would be a line for every tenth of a second
        )
    except ValueError:  # pooch has deleted what it got
        raise InputError(
            f"--{flag}=imagenet: the download has another hash than the published file, and was deleted; try again, or "
            f"{by_hand}."
        ) from None
    except (RequestException, OSError) as error:
        reason = (error.strerror if not isinstance(error, RequestException) else None) or type(error).__name__
        raise InputError(f"--{flag}=imagenet could not be downloaded ({reason}); {by_hand}.") from None
    return path
