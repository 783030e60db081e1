"""What a network learns from: pictures fitted into its input, and places that were looked at."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing
from landmarkflow.learning.folds import Folded
from landmarkflow.methods.salient.frames import Frame

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Example(Folded):
    """A picture to learn from.

    Attributes:
        frame: how it lies in the input.
        picture: (3, input height, input width) uint8.
        points: (n, 2) pixels of the picture that were looked at.
        weights: (n,) of the points.
        observers: (n,) numbers of those who looked.
        sigma: of the fixations' Gaussian, pixels of the picture.
        structures: names of annotated structures, for the names of clusters.
        places: (k, 2) pixels of the picture; NaN for one that is not annotated.
        scale: length that distances are compared with, pixels of the picture.
    """

    frame: Frame
    picture: NDArray[np.uint8]
    points: Array
    weights: Array
    observers: NDArray[np.int64]
    sigma: float
    structures: tuple[str, ...] = ()
    places: Array = field(default_factory=lambda: np.zeros((0, 2)))
    scale: float = float("nan")


def save_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write examples to one file without pickle."""
    arrays: dict[str, NDArray[Any]] = {}
    known = []
    for number, one in enumerate(examples):
        for name in ("picture", "points", "weights", "observers", "places"):
            arrays[f"{number}/{name}"] = getattr(one, name)
        known.append(
            {
                "scan": one.scan,
                "fold": one.fold,
                "frame": vars(one.frame),
                "sigma": one.sigma,
                "structures": one.structures,
                "scale": one.scale,
            }
        )
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, known=np.array(json.dumps(known)), **arrays)  # type: ignore[arg-type]


def load_examples(path: Path) -> tuple[Example, ...]:
    """Read the examples of `save_examples`.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return tuple(
                Example(
                    scan=one["scan"],
                    fold=one["fold"],
                    frame=Frame(**one["frame"]),
                    sigma=one["sigma"],
                    structures=tuple(one["structures"]),
                    scale=one["scale"],
                    **{
                        name: stored[f"{number}/{name}"]
                        for name in ("picture", "points", "weights", "observers", "places")
                    },
                )
                for number, one in enumerate(json.loads(str(stored["known"])))
            )
    except (OSError, ValueError, KeyError, EOFError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as examples to learn from ({error})") from error


def blurred(
    points: Array, weights: Array, sigma: float, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Gaussians at places (n, 2) in cells, summed over places, on (rows, columns) cells."""
    along = [
        np.exp(-0.5 * ((np.arange(count) - points[:, axis, None]) / sigma) ** 2)
        for axis, count in ((0, shape[1]), (1, shape[0]))
    ]
    return np.asarray((along[1] * weights[:, None]).T @ along[0], np.float32)
