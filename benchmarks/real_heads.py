"""Lay real fetal heads beside simulated ones, so that a study learns from these and predicts those.

The folder that is read holds the heads of HC18 as `images/` and `ellipses.csv` (image, x, y,
semi_axis_long, in pixels of the pictures). The one that is written holds them as `images/`, with
the head's centre as their only landmark and its long axis as their scale, and simulated heads with
their fixations and structures as `training/`. Nothing of the real heads is learned from.

Usage: python -m benchmarks.real_heads --data FOLDER --output FOLDER [--training 600] [--seed 1]
       make run STUDY=fetal_head_real DATA=FOLDER
"""

import argparse
import csv
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from landmarkflow.cohorts.fetal_head import simulate_fetal_head
from landmarkflow.cohorts.fetal_head_settings import HEAD_CENTRE, FetalHeadSettings, long_axis_of
from landmarkflow.core.files import table_text, write_text

# Pictures of HC18's size and, as a head's circumference is measured there, of the transventricular
# plane. Heads differ much in size and turn; of the tracker the same degrees are more pixels.
COHORT = FetalHeadSettings(
    planes=("TV",),
    look="scanner",
    size=(400, 270),
    long_axis=(80.0, 300.0),
    rotation_degrees=25.0,
    variation=0.02,
    tracker_noise=3.5,
    tracker_bias=4.2,
)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV."""
    write_text(path, table_text([header, *rows]))


def lay_real(data: Path, output: Path) -> int:
    """Copy the real heads with centres and long axes; return how many there are."""
    (output / "images").mkdir(parents=True)
    with (data / "ellipses.csv").open(encoding="utf-8", newline="") as file:
        ellipses = {row["image"]: row for row in csv.DictReader(file)}
    landmarks, images = [], []
    for path in sorted((data / "images").iterdir()):
        ellipse = ellipses[path.stem]
        shutil.copyfile(path, output / "images" / path.name)
        with Image.open(path) as picture:
            images.append((path.name, *picture.size, 2 * float(ellipse["semi_axis_long"])))
        landmarks.append((path.name, HEAD_CENTRE, ellipse["x"], ellipse["y"]))
    write_table(output / "landmarks.csv", ("image", "landmark", "x", "y"), landmarks)
    write_table(output / "images.csv", ("image", "width", "height", "scale"), images)
    return len(images)


def simulate(folder: Path, count: int, seed: int) -> None:
    """Write simulated heads, where observers look at them, and their structures."""
    (folder / "images").mkdir(parents=True)
    landmarks, images, fixations = [], [], []
    for index in range(1, count + 1):
        picture, name = simulate_fetal_head(COHORT, seed, index), f"head{index:03d}.png"
        Image.fromarray(picture.image).save(folder / "images" / name)
        places = zip(picture.landmarks.labels, picture.landmarks.positions, strict=True)
        # Only what is looked at has a name: the head's centre is none of these.
        landmarks += [(name, label, x, y) for label, (x, y, _) in places if label != HEAD_CENTRE]
        fixations += [(name, *look) for look in picture.gaze]
        images.append((name, *COHORT.size, long_axis_of(COHORT, seed, index)))
    header = ("image", "observer", "x", "y", "duration_ms", "order")
    write_table(folder / "fixations.csv", header, fixations)
    write_table(folder / "landmarks.csv", ("image", "landmark", "x", "y"), landmarks)
    write_table(folder / "images.csv", ("image", "width", "height", "scale"), images)


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the real heads")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--training", type=int, default=600, help="simulated heads")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated heads")
    given = parser.parse_args()
    if given.output.exists():
        parser.error(f"{given.output} exists, expected a folder to be made")
    count = lay_real(given.data, given.output)
    simulate(given.output / "training", given.training, given.seed)
    sys.stdout.write(f"{given.output}: {given.training} simulated heads, {count} real ones\n")


if __name__ == "__main__":
    main()
