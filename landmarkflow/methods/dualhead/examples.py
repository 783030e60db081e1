"""What networks learn from: crops of scans with labels and landmarks, in one file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import TEMPLATE
from landmarkflow.learning.folds import Folded, held_back_in, learned_in, with_held_back

Array = NDArray[np.float64]

# Of an example, what is an array beside its crops.
ARRAYS = ("positions", "weights", "centre", "teacher_mm", "pieces")
# A label is in several pieces where its second is so large, of the first, in half of the scans.
LEAST_PIECE = 0.02


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of a scan at one voxel size, its axes along LPS.

    Attributes:
        image: (z, y, x) float16, intensities of 0 to 1.
        labels: (z, y, x) uint8, 0 for background, then the place in the list of labels plus 1.
        origin: (3,) LPS mm, centre of the first voxel.
        spacing: mm.
    """

    image: NDArray[np.float16]
    labels: NDArray[np.uint8]
    origin: Array
    spacing: float

    @property
    def grid(self) -> Grid:
        """Where its voxels lie."""
        z, y, x = self.image.shape
        return Grid((x, y, z), np.full(3, self.spacing), self.origin, np.eye(3))


@dataclass(frozen=True, eq=False)
class Example(Folded):
    """One scan to learn from; where a scan is of the other side, all is mirrored in x = 0.

    Attributes:
        positions: (k, 3) LPS mm, NaN for a missing landmark.
        weights: (k,) of the landmarks in the loss.
        centre: (3,) LPS mm, the middle of the target's bounding box.
        radius_mm: distance of the farthest part of the target from there.
        volume_mm3: of the labels; 0 without a segmentation.
        teacher_mm: (k,) radii of the answers learned from; 0 for annotations.
        pieces: for each label the size of its second piece, of its first; 0 where it is in one.
        coarse: crop for the coarse pass.
        fine: crop for the fine pass.
    """

    positions: Array
    weights: Array
    centre: Array
    radius_mm: float
    volume_mm3: float
    teacher_mm: Array
    pieces: Array
    coarse: Crop
    fine: Crop

    @property
    def known(self) -> NDArray[np.intp]:
        """Numbers of the landmarks that are there."""
        return np.flatnonzero(~np.isnan(self.positions).any(axis=1))

    @property
    def segmented(self) -> bool:
        """Whether it has labels."""
        return self.volume_mm3 > 0


@dataclass(frozen=True, eq=False)
class Examples:
    """All that a run learns from.

    Attributes:
        landmarks: names.
        labels: values in segmentations; empty where none is learned.
        side: the template's.
        low: intensity that is 0 in the crops.
        high: intensity that is 1.
        scans: the examples.
        template: (k, 3) LPS mm, the template's landmarks, by which it is seen how a target lies.
        left_out: scans that are not learned from, with the reason.
    """

    landmarks: tuple[str, ...]
    labels: tuple[int, ...]
    side: str
    low: float
    high: float
    scans: tuple[Example, ...]
    template: Array
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def spacings(self) -> tuple[float, float]:
        """Voxel sizes of the coarse and of the fine crops, mm."""
        first = self.scans[0]
        return float(first.coarse.spacing), float(first.fine.spacing)

    def learned(self, fold: int) -> list[Example]:
        """Those that a fold's network learns from; 0 is that of no fold."""
        return learned_in(self.scans, fold)

    def held_back(self, fold: int) -> list[Example]:
        """Those that a fold's network never sees."""
        return held_back_in(self.scans, fold)


def hold_back(examples: Examples, share: float, seed: int) -> Examples:
    """The examples with a share of them held back, where none is; the template never is."""
    scans = with_held_back(examples.scans, share, seed, apart_from=TEMPLATE)
    return examples if scans is examples.scans else replace(examples, scans=scans)


def save_examples(path: Path, examples: Examples) -> None:
    """Write all in one .npz file without pickle."""
    arrays: dict[str, Any] = {}
    scans = []
    for number, one in enumerate(examples.scans):
        facts: dict[str, Any] = {"scan": one.scan, "fold": one.fold, "radius_mm": one.radius_mm}
        facts["volume_mm3"] = one.volume_mm3
        for name in ARRAYS:
            arrays[f"{number}/{name}"] = getattr(one, name)
        for name, crop in (("coarse", one.coarse), ("fine", one.fine)):
            facts[name] = {"origin": crop.origin.tolist(), "spacing": crop.spacing}
            arrays[f"{number}/{name}"] = crop.image
            arrays[f"{number}/{name}_labels"] = crop.labels
        scans.append(facts)
    named = ("landmarks", "labels", "side", "low", "high", "left_out")
    memo = {name: getattr(examples, name) for name in named} | {"scans": scans}
    arrays["template"] = examples.template
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, memo=np.array(json.dumps(memo)), **arrays)


def load_examples(path: Path) -> Examples:
    """Read what `save_examples` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            memo = json.loads(str(stored["memo"]))
            scans = tuple(_example(n, facts, stored) for n, facts in enumerate(memo["scans"]))
            template = stored["template"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({error}), expected gathered examples") from error
    return Examples(
        tuple(memo["landmarks"]),
        tuple(memo["labels"]),
        memo["side"],
        memo["low"],
        memo["high"],
        scans,
        template,
        memo["left_out"],
    )


def _example(number: int, facts: dict[str, Any], stored: Any) -> Example:
    crops = {
        name: Crop(
            stored[f"{number}/{name}"],
            stored[f"{number}/{name}_labels"],
            np.array(facts[name]["origin"]),
            facts[name]["spacing"],
        )
        for name in ("coarse", "fine")
    }
    arrays = {name: stored[f"{number}/{name}"] for name in ARRAYS}
    return Example(
        scan=facts["scan"],
        fold=facts["fold"],
        radius_mm=facts["radius_mm"],
        volume_mm3=facts["volume_mm3"],
        coarse=crops["coarse"],
        fine=crops["fine"],
        **arrays,
    )


@dataclass(frozen=True)
class Statistics:
    """What the annotated targets look like, by which an answer is judged.

    Attributes:
        radius_mm: of the largest target.
        volume_mm3: smallest and largest; None without segmentations.
        distances: for each pair of landmarks their places in the list, mean and deviation, mm.
        pieces: for each label the smallest second piece, of the first; 0 where it is in one.
    """

    radius_mm: float
    volume_mm3: tuple[float, float] | None
    distances: tuple[tuple[int, int, float, float], ...]
    pieces: tuple[float, ...] = ()

    @staticmethod
    def of(examples: Sequence[Example]) -> "Statistics":
        """Those of some examples; a deviation is at least 4 % of its distance, and 0.2 mm."""
        positions = np.array([example.positions for example in examples])
        distances = []
        for one in range(positions.shape[1]):
            for other in range(one + 1, positions.shape[1]):
                apart = np.linalg.norm(positions[:, one] - positions[:, other], axis=1)
                known = apart[np.isfinite(apart)]
                if len(known):
                    mean = float(known.mean())
                    smallest = max(0.2, 0.04 * mean)
                    # Of few scans the deviation is hardly known.
                    deviation = float(known.std()) if len(known) > 3 else 2 * smallest
                    distances.append((one, other, mean, max(deviation, smallest)))
        segmented = [example for example in examples if example.segmented]
        volumes = [example.volume_mm3 for example in segmented]
        pieces = np.array([example.pieces for example in segmented])
        several = np.median(pieces, axis=0) > LEAST_PIECE if segmented else np.zeros(0, bool)
        least = np.where(several, pieces.min(axis=0), 0.0) if segmented else several
        return Statistics(
            max(example.radius_mm for example in examples),
            (min(volumes), max(volumes)) if volumes else None,
            tuple(distances),
            tuple(float(share) for share in least),
        )

    def as_data(self) -> dict[str, Any]:
        """Plain data, which `of_data` takes back."""
        return asdict(self)

    @staticmethod
    def of_data(data: dict[str, Any]) -> "Statistics":
        """Those of `as_data`, read from JSON."""
        volume = data["volume_mm3"]
        distances = tuple(
            (int(one), int(other), float(mean), float(deviation))
            for one, other, mean, deviation in data["distances"]
        )
        return Statistics(
            float(data["radius_mm"]),
            (volume[0], volume[1]) if volume else None,
            distances,
            tuple(data["pieces"]),
        )
