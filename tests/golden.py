"""Golden results of every kind of detector, to compare before and after a change of the structure.

    python tests/golden.py DIR [BEFORE]

writes DIR from a small part of demo/gear at 64 px and, given the DIR of an earlier commit, names what differs. The same
code on the same machine with the same libraries gives the same bits; another CPU or version need not.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from command_lines import command  # noqa: E402

SCHEDULE = ["--epochs=1", "--steps_per_epoch=3", "--learning_rate=0.01", "--image_size=64"]
IMAGE = [*SCHEDULE, "--batch_size=12"]
PATCH = [*SCHEDULE, "--batch_size=12", "--patch_size=32", "--extract_size=32", "--stride=8", "--scar_max_length=20"]
FAST = [*PATCH, "--stem=imagenet", "--dense=fast", "--feature=layer1"]
# Run -> flags of train_main.py.
RUNS = {
    "image": IMAGE,
    "image_seed1": [*IMAGE, "--seed=1"],
    "exact_shared": [*PATCH, "--density_mode=shared"],
    "fast_per_location": [*FAST, "--density_mode=per_location"],
    "fast_per_location_seed1": [*FAST, "--density_mode=per_location", "--seed=1"],
    "efficientnet": ["--backbone=efficientnet_b0", "--epochs=0", "--head_epochs=0", "--image_size=64"],
}
# Evaluation -> runs, flags of eval_main.py.
EVALUATIONS = {
    "image": ("image", []),
    "image_gradcam_layer": ("image", ["--gradcam_layer=layer3_1"]),
    "image_kde": ("image", ["--density=kde"]),
    "image_ledoit_wolf": ("image", ["--density=ledoit_wolf"]),
    "image_mixture": ("image", ["--density=mixture", "--mixture_components=2", "--reg_covar=0.001"]),
    "image_layer3": ("image", ["--feature=layer3", "--nol2_normalize"]),
    "image_grouped": ("image", ["--group_by=prefix", "--false_alarm_rate=0.2"]),
    "image_synthetic": ("image", ["--synthetic=heart"]),
    "image_calibrated": ("image", ["--calibration_data=CALIBRATION", "--noheat_maps"]),
    "exact_shared": ("exact_shared", []),
    "exact_per_location": ("exact_shared", ["--density_mode=per_location", "--image_score=patches"]),
    "fast_per_location": ("fast_per_location", []),
    "fast_shared": ("fast_per_location", ["--density_mode=shared", "--normalize_coverage"]),
    "fast_calibrated": ("fast_per_location", ["--calibration_data=CALIBRATION"]),
    "efficientnet": ("efficientnet", []),
    "efficientnet_level7": ("efficientnet", ["--feature=level7"]),
    "image_ensemble": ("image,image_seed1", []),
    "patch_ensemble": ("fast_per_location,fast_per_location_seed1", []),
    "image_export": ("exports/image", []),
    "exact_export": ("exports/exact_shared", []),
}
# Export -> run, flags of export_main.py.
EXPORTS = {
    "image": ("image", []),
    "exact_shared": ("exact_shared", []),
    "fast_per_location": ("fast_per_location", ["--false_alarm_rate=0.2"]),
    "image_onnx": ("image", ["--format=onnx"]),
}
PREDICTED = ("image", "exact_shared", "fast_per_location", "exports/image", "exports/fast_per_location")


def part_of_demo(folder: Path) -> Path:
    """Some of demo/gear's images in MVTec AD's layout, and other normal ones in CALIBRATION."""
    from cutpaste_tf.images import demo

    drawn = demo.draw("demo/gear")
    chosen = [(f"train/good/{i:03d}.png", f"train/good/{'abcdef'[i // 4]}{i:03d}.png") for i in range(24)]
    chosen += [(f"test/good/{i:03d}.png",) * 2 for i in range(6)]
    chosen += [(f"test/good/{20 + i:03d}.png", f"../CALIBRATION/{i:03d}.png") for i in range(10)]
    for defect in ("crack", "rust", "scratch"):
        for i in range(3):
            chosen += [(f"test/{defect}/{i:03d}.png",) * 2, (f"ground_truth/{defect}/{i:03d}_mask.png",) * 2]
    for source, target in chosen:
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(drawn / source, path)
    return folder


def stream_hashes() -> dict[str, str]:
    """Hashes of two batches of every task, as whole images and as crops, in float32 and in 8 bits."""
    import cutpaste_tf
    from cutpaste_tf.augmentation import pipeline

    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 4), dtype=np.uint8)
    images[..., 3] &= 15
    tasks = [
        "cutpaste_3way",
        "cutpaste",
        "cutpaste_scar",
        "cutpaste_union",
        "rotation",
        "cutout",
        "cutout_mean",
        "cutout_color",
        "scar",
        "confetti",
        "cutswap",
    ]
    hashes = {}
    for task in tasks:
        for name, more in {
            "image": {},
            "crops": {"patch_size": 32},
            "uint8": {"uint8_views": True},
            "independent": {"share_base_augmentation": False},
        }.items():
            settings = cutpaste_tf.Config.of(proxy_task=task, image_size=64, **more).augmentation
            stream_images = images if task == "cutswap" else images[..., :3]
            stream = pipeline.stream(stream_images, settings, batch_size=12, seed=3, start_step=1)
            digest = hashlib.sha256()
            for views, labels in stream.take(2):
                digest.update(views.numpy().tobytes() + labels.numpy().tobytes())
            hashes[f"{task} {name}"] = digest.hexdigest()[:16]
    return hashes


def results_of(folder: Path) -> dict[str, str]:
    """What an evaluation or a prediction wrote: text as it is, arrays by their hash."""
    results = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name == "metrics.json":
            metrics = json.loads(path.read_text())
            for place in ("data", "location", "ensemble"):
                metrics.pop(place, None)
            results[name] = json.dumps(metrics, sort_keys=True)
        elif path.suffix == ".csv":
            results[name] = path.read_text().replace(str(folder), "")
        elif path.suffix == ".npy":
            results[name] = hashlib.sha256(np.load(path).tobytes()).hexdigest()[:16]
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                for key in arrays.files:
                    if arrays[key].dtype.kind in "fi":
                        results[f"{name}/{key}"] = hashlib.sha256(arrays[key].tobytes()).hexdigest()[:16]
    return results


def write(folder: Path) -> dict[str, str]:
    """Trains, evaluates, exports and predicts; gives the results by name."""
    folder = folder.resolve()
    data = part_of_demo(folder / "gear")
    results = {f"stream {name}": value for name, value in stream_hashes().items()}
    for run, flags in RUNS.items():
        command("train_main.py", f"--data={data}", f"--output_dir={folder / run}", "--quiet", *flags)
    for name, (run, flags) in EXPORTS.items():
        command(
            "export_main.py", f"--run_dir={folder / run}", f"--output={folder / 'exports' / name}", "--quiet", *flags
        )
    for name, (runs, flags) in EVALUATIONS.items():
        output = folder / "evaluations" / name
        places = ",".join(str(folder / run) for run in runs.split(","))
        flags = [flag.replace("CALIBRATION", str(folder / "CALIBRATION")) for flag in flags]
        command("eval_main.py", f"--run_dir={places}", f"--output_dir={output}", f"--data={data}", "--quiet", *flags)
        results |= {f"evaluation {name} {key}": value for key, value in results_of(output).items()}
    for name in PREDICTED:
        output = folder / "predictions" / name.replace("/", "_")
        output.mkdir(parents=True, exist_ok=True)
        command(
            "predict_main.py",
            f"--detector={folder / name}",
            f"--images={data / 'test'}/*/*.png",
            "--quiet",
            f"--output={output / 'rows.csv'}",
            f"--heat_maps={output / 'maps'}",
        )
        results |= {f"prediction {name} {key}": value for key, value in results_of(output).items()}
    return results


def main() -> int:
    """Writes, and compares where there is something to compare with."""
    folder, *before = map(Path, sys.argv[1:])
    results = write(folder)
    (folder / "golden.json").write_text(json.dumps(results, indent=1))
    if not before:
        return 0
    earlier = json.loads((before[0] / "golden.json").read_text())
    different = [name for name in {**earlier, **results} if earlier.get(name) != results.get(name)]
    for name in different:
        print(f"{name}\n  before: {str(earlier.get(name))[:2000]}\n  now:    {str(results.get(name))[:2000]}")
    print(f"{len(different)} of {len(results)} results differ.")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
