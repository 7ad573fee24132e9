"""Interprets names of files and folders: normal, defective, masks, or litter that programs leave behind.

Comparisons ignore case.
"""

import re

# Folders of normal images; no defect should have such a name.
_NORMAL = {"good", "ok", "okay", "normal"}
_DEFECTIVE = {
    *("defect", "defects", "defective", "bad", "ng", "nok", "ko", "nio", "abnormal", "outlier", "outliers"),
    *("anomaly", "anomalies", "anomalous", "fault", "faults", "faulty", "fail", "failed", "failure", "failures"),
    *("reject", "rejects", "rejected", "scrap", "scrapped", "damage", "damaged", "broken"),
}
_WITHOUT = {"no", "non", "not", "without", "free"}
# Folders of masks. Those in _PERHAPS_MASKS may also hold photographs of labels; only files that match images are masks.
_MASKS = {"mask", "masks", "gt", "groundtruth", "annotation", "annotations", "segmentation", "segmentations"}
_MASKS |= {"segmentationclass", "segmentationobject"}
_PERHAPS_MASKS = {"label", "labels", "seg", "segs", "truth"}
_IMAGES = {"image", "images", "img", "imgs", "jpegimages"}
# Such as `000_mask`, `Part0_label`, `10000_GT`, `000-ground-truth`; `000_mask_1` if an image has several masks.
_MASK_SUFFIX = re.compile(
    r"(?P<stem>.+?)[_\-. ](?:masks?|gt|labels?|seg|segmentation|annotations?|(?:ground[_\-. ]?)?truth)"
    r"(?P<number>[_\-. ]?\d+)?",
    re.IGNORECASE,
)
_LITTER = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "$recycle.bin", "system volume information"),
    *("lost+found", "found.000", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "@__thumb"),
    *("#recycle", "#snapshot"),
}
# Files that describe the images next to them.
_SIDECARS = {
    *(".csv", ".tsv", ".json", ".jsonl", ".txt", ".xml", ".md", ".rst", ".yaml", ".yml", ".toml", ".ini", ".cfg"),
    *(".log", ".html", ".htm", ".pdf", ".xls", ".xlsx", ".doc", ".docx", ".bib", ".sha256", ".md5", ".xmp"),
}
_SIDECAR_NAMES = {
    "readme",
    "license",
    "licence",
    "copying",
    "notice",
    "changelog",
    "checksums",
    "md5sums",
    "sha256sums",
}


def is_normal(folder: str) -> bool:
    """Whether a folder's name says that its images are normal."""
    return folder.casefold() in _NORMAL


def is_defective(folder: str) -> bool:
    """Whether a word of a folder's name says that its images are defective: `NG`, `bad_parts`, `not ok`."""
    words = _words(folder)
    if _WITHOUT & words:  # `no_defect`, `not_ok`
        return bool(_NORMAL & words)
    return bool(_DEFECTIVE & words)


def is_masks(folder: str) -> bool:
    """Whether a folder's name says that it holds masks."""
    return _joined(folder) in _MASKS


def is_perhaps_masks(folder: str) -> bool:
    """Whether a folder's name says that it holds masks, or photographs of labels."""
    return _joined(folder) in _PERHAPS_MASKS


def says_masks(folder: str) -> bool:
    """Whether a word of a folder's name says that it holds masks."""
    return is_masks(folder) or bool(_MASKS & _words(folder))


def is_images(folder: str) -> bool:
    """Whether a folder's name says that it holds images, next to a folder of masks."""
    return folder.casefold() in _IMAGES


def without_mask_suffix(stem: str) -> tuple[str, bool]:
    """The stem of the mask's image (empty if `stem` is not a mask's), and whether the image has several masks."""
    match = _MASK_SUFFIX.fullmatch(stem)
    return (match["stem"], match["number"] is not None) if match else ("", False)


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by a program."""
    return name.startswith(".") or name.casefold() in _LITTER


def is_sidecar(name: str) -> bool:
    """Whether a file's name says that it describes images."""
    stem, dot, ending = name.casefold().rpartition(".")
    return f".{ending}" in _SIDECARS if dot and stem else name.casefold() in _SIDECAR_NAMES


def _joined(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _words(name: str) -> set[str]:
    return {word.casefold() for word in re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))}
