"""Make a folder of scans that holds each scan of another one in several orientations.

The patient is turned: the voxels stay in their order, origin and axes turn about the middle of the
volume, and the landmarks with them. The scan `h03` becomes `h03-00` (as it lies) to `h03-23`, the
rotations of a cube; with `--random 10` `h03-00` to `h03-09`, each scan in ten orientations of its
own, evenly drawn from all. `samples.tsv` names the orientation's number as the scan's group.
Template and training scans stay as they are: a link for each folder, and those of `--training`,
where it is given, for what is learned from.

Usage: python -m benchmarks.turned --data FOLDER --output FOLDER [--random 10 --seed 1]
    [--training FOLDER] [--side right]
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.slicer import write_markups

Array = NDArray[np.float64]


def main() -> None:
    """Write `scans`, `landmarks`, `samples.tsv`, and links to what is learned from."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--training", type=Path, help="folder of annotated scans to learn from")
    parser.add_argument("--side", default="", help="that all scans show, where it is known")
    parser.add_argument("--random", type=int, default=0, help="orientations of each scan")
    parser.add_argument("--seed", type=int, default=1, help="of the random orientations")
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)

    def turns() -> Sequence[Array]:
        if arguments.random:
            return random_orientations(arguments.random, generator)
        return orientations()

    write(arguments.data, arguments.output, arguments.training, arguments.side, turns)


def random_orientations(count: int, generator: np.random.Generator) -> list[Array]:
    """Rotations (3, 3), evenly drawn from all."""
    return list(Rotation.random(count, random_state=generator).as_matrix())


def orientations() -> list[Array]:
    """The 24 rotations of a cube as (3, 3) matrices; the first is none."""
    turns = Rotation.create_group("O").as_matrix().round()
    return sorted(turns, key=lambda turn: not np.array_equal(turn, np.eye(3)))


def turned(image: sitk.Image, turn: Array) -> sitk.Image:
    """The image with origin and axes turned about the middle of its volume."""
    middle = middle_of(image)
    found = sitk.Image(image)
    found.SetOrigin((middle + turn @ (np.array(image.GetOrigin()) - middle)).tolist())
    axes = turn @ np.array(image.GetDirection()).reshape(3, 3)
    found.SetDirection(axes.ravel().tolist())
    return found


def middle_of(image: sitk.Image) -> Array:
    """(3,) LPS mm, the middle of its volume."""
    half = [(count - 1) / 2 for count in image.GetSize()]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(half))


def write(
    data: Path,
    output: Path,
    training: Path | None,
    side: str,
    turns: Callable[[], Sequence[Array]] = orientations,
) -> None:
    """Write all scans of a folder in several orientations.

    Args:
        data: folder with `template/`, `scans/` and `landmarks/`.
        output: folder that is made.
        training: folder with `scans/`, `segmentations/` and `landmarks/` to learn from.
        side: that all scans show; empty where it is not known.
        turns: asked for each scan's orientations.
    """
    for name in ("scans", "landmarks"):
        (output / name).mkdir(parents=True)
    (output / "template").symlink_to((data / "template").resolve())
    if training is not None:
        (output / "training").mkdir()
        for name in ("scans", "segmentations", "landmarks"):
            (output / "training" / name).symlink_to((training / name).resolve())
    rows = ["scan\tside\tgroup"]
    for path in sorted((data / "scans").iterdir()):
        scan = path.name.partition(".")[0]
        image = sitk.ReadImage(path)
        true = read_landmarks(data / f"landmarks/{scan}.mrk.json", None, path.name)
        middle = middle_of(image)
        for number, turn in enumerate(turns()):
            name = f"{scan}-{number:02d}"
            sitk.WriteImage(turned(image, turn), output / f"scans/{name}.mha")
            moved = Landmarks(true.labels, middle + (true.positions - middle) @ turn.T)
            listed = [PointList("reference", moved, None)]
            write_markups(output / f"landmarks/{name}.mrk.json", listed, scan=name)
            rows.append(f"{name}\t{side}\t{number:02d}")
    (output / "samples.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
