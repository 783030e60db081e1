"""The alignment table: every pair of pictures by landmarks, and what that is compared with."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmarkflow.engine.batch import Batch
from landmarkflow.methods.salient.baselines import by_intensity, by_keypoints
from landmarkflow.methods.salient.gaze import colours_of
from landmarkflow.methods.salient.pairs import (
    Aligner,
    Coverage,
    Shown,
    by_landmarks,
    coverage,
    errors_of,
    left_right,
    pairs_of,
    unaligned,
)
from landmarkflow.methods.salient.settings import AlignSettings
from landmarkflow.methods.salient.shown import shown_by_group
from landmarkflow.methods.salient.tables import Row, rows_of, write_alignment, write_coverage

logger = logging.getLogger(__name__)


def drawn(pairs: Sequence[tuple[Shown, Shown]], count: int, seed: int) -> list[tuple[Shown, Shown]]:
    """So many of the pairs, drawn by a seed, in their order; all for 0."""
    if not count or count >= len(pairs):
        return list(pairs)
    rows = np.random.default_rng([seed, len(pairs)]).choice(len(pairs), count, replace=False)
    return [pairs[row] for row in sorted(rows.tolist())]


def measured_group(
    group: str,
    pictures: Sequence[Shown],
    settings: AlignSettings,
    images: dict[str, NDArray[np.float32]],
    seed: int,
) -> tuple[list[Row], Coverage]:
    """The rows of one group, and its coverage.

    Args:
        group: its name.
        pictures: with references.
        settings: what aligns and what is measured.
        images: intensities by scan, for the baselines that need them.
        seed: of drawn pairs and of the baselines.
    """
    structures = tuple(dict.fromkeys(n for names in settings.landmarks.values() for n in names))
    names, measured = settings.landmarks[group], settings.measured[group]
    pairs = pairs_of(pictures)
    some = drawn(pairs, settings.baseline_pairs, seed)
    mirrored = left_right(names)
    right = {one.scan for one in pictures if all(one.is_right(n, settings.near) for n in names)}
    tried: list[tuple[str, Sequence[tuple[Shown, Shown]], Aligner]] = [
        ("none", pairs, unaligned),
        ("left_right", pairs, mirrored),
        ("intensity", some, by_intensity(images, mirrored, settings.iterations, seed)),
        ("keypoints", some, by_keypoints(images, settings.keypoints, seed)),
        ("salient", pairs, by_landmarks(names, settings.tolerance)),
    ]
    rows = []
    for alignment, over, align in tried:
        errors, aligned = errors_of(over, align, measured)
        rows += rows_of((group, alignment, "all"), measured, errors, aligned)
        if alignment in ("salient", "keypoints"):
            rows += rows_of(
                (group, alignment, "aligned"), measured, errors[aligned], aligned[aligned]
            )
        if alignment == "salient":
            correct = np.array([a.scan in right and b.scan in right for a, b in over], bool)
            rows += rows_of(
                (group, alignment, "right"), measured, errors[correct], aligned[correct]
            )
        logger.info("%s: %s: %d pairs", group, alignment, len(over))
    return rows, coverage(pictures, names, structures, settings.near)


def run(batch: Batch) -> None:
    """Align every pair of each group, and write the tables."""
    settings, seed = batch.settings(AlignSettings), int(batch.values["seed"])
    groups = shown_by_group(batch, settings.measured)
    largest = int(batch.values["largest_gib"] * 2**30)
    paths = {task.scan: Path(task.row["image"]) for task in batch.tasks}
    rows, found = [], {}
    for group, pictures in groups.items():
        referenced = [one for one in pictures if one.true]
        images = {
            one.scan: colours_of(paths[one.scan], largest).mean(axis=2, dtype=np.float32)
            for one in referenced
        }
        more, found[group] = measured_group(group, referenced, settings, images, seed)
        rows += more
    write_alignment(batch, rows)
    write_coverage(batch, found)
