"""`landmarkflow init`: a study of what lies in a folder, with a word on everything in it."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from landmarkflow.commands.finding import Found, find, ids_of
from landmarkflow.commands.init_pictures import init_pictures
from landmarkflow.commands.studies import PROGRAM, say, tell, workflow_of
from landmarkflow.core.errors import InputError
from landmarkflow.core.files import write_text
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.volumes import read_labels, read_volume
from landmarkflow.images.operations import grid_of, view_of
from landmarkflow.study.pictures import is_of_pictures
from landmarkflow.study.sheet import Scan, scan_of, write_sheet

STUDY, SHEET = "study.yaml", "samples.tsv"
MOST_AT_ONCE = 4
# A scan whose voxels are so much wider than the template's shows less than its landmarks need.
MUCH_WIDER = 2.0
# Of the range between the 1st and 99th percentile of the template's intensities.
FEWEST_SHARED = 0.3


@dataclass(frozen=True, eq=False)
class Seen:
    """What was read of a scan.

    Attributes:
        grid: its grid, None where it cannot be read.
        intensities: its 1st and 99th percentile.
        landmarks: where it has some.
        bad: what cannot be used, in sentences.
    """

    grid: Grid | None = None
    intensities: tuple[float, float] = (0.0, 0.0)
    landmarks: Landmarks | None = None
    bad: tuple[str, ...] = ()


def init(folder: Path, output: Path, template: str, side: str) -> int:
    """Write a study of the scans in a folder, and say what was made of each file.

    Args:
        folder: of any layout, with one annotated scan at least.
        output: folder that gets `study.yaml` and `samples.tsv`.
        template: id of the annotated scan that is the template; empty to choose one.
        side: that the template shows; empty where it is not known.

    Returns:
        0, or 1 where a scan cannot be used as it is.

    Raises:
        InputError: there is no scan, no annotated one, or a study is there already.
    """
    for name in (STUDY, SHEET):
        if (output / name).exists():
            said = "is there already: delete it, or have the study written elsewhere (-o FOLDER)"
            raise InputError(f"{output / name}: {said}")
    name = ids_of([Found(folder, folder.resolve().name)])[0] or "study"
    if is_of_pictures(folder):
        return init_pictures(folder, output / STUDY, name)
    images = find(folder, tell)
    if not images:
        raise InputError(f"{folder}: holds no scan that can be read")
    ids = ids_of(images)
    with ThreadPoolExecutor(min(MOST_AT_ONCE, len(os.sched_getaffinity(0)))) as pool:
        seen = dict(zip(ids, pool.map(_look, images), strict=True))
    by_id = dict(zip(ids, images, strict=True))
    chosen = _template(by_id, seen, template, folder)
    say(f"template  {_row(chosen, by_id[chosen], seen[chosen])}")
    for scan in ids:
        if scan != chosen:
            say(f"scan      {_row(scan, by_id[scan], seen[scan])}")
    warnings = [line for scan in ids for line in _warnings(scan, chosen, seen)]
    for line in warnings:
        say(f"look at   {line}")
    _write(output, name, by_id, chosen, side)
    annotated = sum(one.landmarks is not None for n, one in by_id.items() if n != chosen)
    say(f"{len(ids) - 1} scans, {annotated} with references: {output / STUDY}, {output / SHEET}")
    if not side:
        say(
            "If scans show left and right, delete both files and give this command again with "
            "--side left or --side right, the side that the template shows: then scans of the "
            "other side are found, too. The sheet's column `side` may state those of scans."
        )
    say(f"Next: {PROGRAM} check {output / STUDY}; {PROGRAM} run {output / STUDY}")
    return 1 if any(one.bad for one in seen.values()) else 0


def _look(one: Found) -> Seen:
    """Reads a scan and what belongs to it."""
    bad: list[str] = []
    try:
        image = read_volume(one.path, series=one.series)
    except (InputError, OSError) as error:
        return Seen(bad=(str(InputError(str(error))),))
    grid = grid_of(image)
    landmarks = None
    if one.landmarks is not None:
        try:
            landmarks = read_landmarks(one.landmarks, None, one.path.name)
            outside = ~landmarks.missing & ~grid.contains(np.nan_to_num(landmarks.positions))
            if outside.any():
                label = landmarks.labels[int(outside.argmax())]
                bad.append(
                    f'{one.landmarks}: "{label}" and {outside.sum() - 1} more lie outside '
                    f"{one.path}, expected inside {grid.extent_text()}: is their frame another?"
                )
        except (InputError, OSError) as error:
            bad.append(str(error))
    if one.segmentation is not None:
        try:
            read_labels(one.segmentation, grid)
        except (InputError, OSError) as error:
            bad.append(str(error))
    values = view_of(image)
    step = max(1, values.size // 1_000_000)
    low, high = np.percentile(values.reshape(-1)[::step], (1, 99))
    return Seen(grid, (float(low), float(high)), landmarks, tuple(bad))


def _template(by_id: dict[str, Found], seen: dict[str, Seen], wanted: str, folder: Path) -> str:
    """The id of the scan that is the template."""
    usable = [n for n, one in by_id.items() if one.landmarks is not None and not seen[n].bad]
    if wanted:
        if wanted not in usable:
            some = ", ".join(usable) or "none there is"
            raise InputError(f"--template {wanted}: is no annotated scan, expected {some}")
        return wanted
    if not usable:
        reasons = [line for one in seen.values() for line in one.bad]
        raise InputError(
            f"{folder}: none of {len(by_id)} scans has landmarks that can be used, expected one "
            "annotated scan, x.nii.gz with x.mrk.json, say" + (f"; {reasons[0]}" if reasons else "")
        )
    named = [name for name in usable if by_id[name].is_template]
    chosen = (named or usable)[0]
    if not named and len(usable) > 1:
        tell(
            f"{folder}: the first of {len(usable)} annotated scans, {chosen}, is the template, "
            "the others are references; --template names another"
        )
    return chosen


def _row(name: str, one: Found, seen: Seen) -> str:
    parts = [f"{name}: {one.path}"]
    if seen.grid is not None:
        size = "×".join(str(count) for count in seen.grid.size)
        spacing = "×".join(f"{step:.3g}" for step in seen.grid.spacing)
        low, high = seen.intensities
        parts.append(f"{size} voxels of {spacing} mm, intensities {low:.0f} to {high:.0f}")
    if one.series:
        parts.append(f"series {one.series}")
    if one.landmarks is not None:
        count = len(seen.landmarks.labels) if seen.landmarks else 0
        parts.append(f"{count} landmarks of {one.landmarks.name}")
    if one.segmentation is not None:
        parts.append(f"segmentation {one.segmentation.name}")
    if one.why:
        parts.append(one.why)
    return ", ".join(parts) + "".join(f"; CANNOT BE USED: {line}" for line in seen.bad)


def _warnings(name: str, template: str, seen: dict[str, Seen]) -> list[str]:
    """What of a scan is unlike the template, in sentences."""
    one, of = seen[name], seen[template]
    if name == template or one.grid is None or of.grid is None or of.landmarks is None:
        return []
    said = []
    wider = float(np.max(one.grid.spacing) / np.max(of.grid.spacing))
    if wider > MUCH_WIDER:
        said.append(
            f"{name}: its voxels are {wider:.1f} times as wide as the template's, which landmarks "
            "cannot be more exact than"
        )
    reach = np.ptp(of.landmarks.positions[~of.landmarks.missing], axis=0).max()
    field = (np.array(one.grid.size) * one.grid.spacing).min()
    if field < reach:
        said.append(f"{name}: is {field:.0f} mm wide, and the landmarks reach over {reach:.0f} mm")
    low, high = (np.array(pair) for pair in zip(one.intensities, of.intensities, strict=True))
    shared = (high.min() - low.max()) / max(float(high[1] - low[1]), 1e-9)
    if shared < FEWEST_SHARED:
        said.append(
            f"{name}: its intensities, {low[0]:.0f} to {high[0]:.0f}, are not those of the "
            f"template, {low[1]:.0f} to {high[1]:.0f}: another modality, or another unit?"
        )
    labels = one.landmarks.labels if one.landmarks else of.landmarks.labels
    if set(labels) != set(of.landmarks.labels):
        said.append(f"{name}: its landmarks are not named as the template's")
    return said


def _write(
    output: Path,
    study_name: str,
    by_id: dict[str, Found],
    template: str,
    side: str,
) -> None:
    """Writes the sheet and the study, and loads them, which checks both."""
    here = Path.cwd()

    def stated(path: Path | None, start: Path) -> str:
        if path is None:
            return ""
        path = path.resolve()
        return os.path.relpath(path, start) if path.is_relative_to(here) else str(path)

    scans: list[Scan] = []
    for name, one in by_id.items():
        if name != template:
            row = {
                "scan": name,
                "image": stated(one.path, output.resolve()),
                "series": one.series,
                "landmarks": stated(one.landmarks, output.resolve()),
                "segmentation": stated(one.segmentation, output.resolve()),
            }
            scans.append(scan_of(row, str(one.path)))
    of = by_id[template]
    entry = {
        "image": stated(of.path, here),
        "landmarks": stated(of.landmarks, here),
        "segmentation": stated(of.segmentation, here),
        "series": of.series,
        "side": side,
    }
    study = {
        "study": study_name,
        "data": {
            "sheet": {
                "sheet": stated(output / SHEET, here),
                "template": {key: value for key, value in entry.items() if value},
            }
        },
    }
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / SHEET, write_sheet(scans))
    write_text(output / STUDY, yaml.safe_dump(study, sort_keys=False, allow_unicode=True))
    try:
        workflow_of(str(output / STUDY))
    except InputError:
        (output / SHEET).unlink()
        (output / STUDY).unlink()
        raise
