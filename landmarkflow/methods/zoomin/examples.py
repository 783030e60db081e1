"""What networks learn from: prepared pictures with landmarks, in one file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing
from landmarkflow.learning.crops import Pyramid
from landmarkflow.learning.folds import Folded, held_back_in, learned_in, with_held_back
from landmarkflow.methods.zoomin.batches import Shown
from landmarkflow.methods.zoomin.settings import ZoomSettings
from landmarkflow.methods.zoomin.shape import Shape

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Example(Folded):
    """One picture to learn from.

    Attributes:
        channels: (c, size, size) uint8, as `prepare.Prepared` has them.
        points: (k, 2) pixels of these channels, NaN for a missing landmark.
    """

    channels: NDArray[np.uint8]
    points: Array

    @property
    def shown(self) -> Shown:
        """The picture with its pyramid."""
        return Shown(Pyramid.of(torch.from_numpy(self.channels)), self.points)


@dataclass(frozen=True, eq=False)
class Examples:
    """All that a run learns from.

    Attributes:
        landmarks: names.
        colours: 1 or 3, how many of the channels are colours.
        scans: the examples.
        left_out: pictures that are not learned from, with the reason.
    """

    landmarks: tuple[str, ...]
    colours: int
    scans: tuple[Example, ...]
    left_out: dict[str, str] = field(default_factory=dict)

    def learned(self, fold: int) -> list[Example]:
        """Those that a fold's network learns from; 0 is that of no fold."""
        return learned_in(self.scans, fold)

    def held_back(self, fold: int) -> list[Example]:
        """Those that a fold's network never sees."""
        return held_back_in(self.scans, fold)


def hold_back(examples: Examples, share: float, seed: int) -> Examples:
    """The examples with a share of them held back, where none is."""
    scans = with_held_back(examples.scans, share, seed)
    return examples if scans is examples.scans else replace(examples, scans=scans)


def save_examples(path: Path, examples: Examples) -> None:
    """Write all in one .npz file without pickle."""
    arrays: dict[str, Any] = {}
    for number, one in enumerate(examples.scans):
        arrays[f"{number}/channels"], arrays[f"{number}/points"] = one.channels, one.points
    memo = {
        "landmarks": list(examples.landmarks),
        "colours": examples.colours,
        "scans": [[one.scan, one.fold] for one in examples.scans],
        "left_out": examples.left_out,
    }
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
            scans = tuple(
                Example(scan, fold, stored[f"{number}/channels"], stored[f"{number}/points"])
                for number, (scan, fold) in enumerate(memo["scans"])
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({error}), expected gathered examples") from error
    return Examples(tuple(memo["landmarks"]), memo["colours"], scans, memo["left_out"])


def shape_of(examples: Sequence[Example], search: ZoomSettings, *, both_ways: bool) -> Shape:
    """How the landmarks of some examples lie to each other, and how a search judges by that."""
    points = np.array([example.points / example.channels.shape[1] for example in examples])
    return replace(
        Shape.of(points, both_ways=both_ways),
        other_scale=search.other_scale,
        most_deviations=search.judged_deviations,
    )
