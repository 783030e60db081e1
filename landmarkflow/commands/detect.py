"""`landmarkflow detect`: landmarks of further scans by a pack, without a study around them."""

import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from landmarkflow.commands.finding import Found, ids_of
from landmarkflow.commands.studies import say
from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing
from landmarkflow.formats.scan_files import suffix_of
from landmarkflow.packs.model import Detection, Model

# What each role is called beside the others of its scan.
NAMES = {"landmarks": ".mrk.json", "record": ".json", "found": ".nii.gz", "picture": ".png"}


@dataclass(frozen=True)
class Options:
    """How scans are seen and answers are given.

    Attributes:
        side: that all scans show; empty where it is not known.
        series: number or UID of the DICOM series of each.
        picture: whether each scan is drawn.
        as_json: whether a line a scan is JSON.
        device: cpu, or auto for a GPU where there is one.
        group: of the study's groups that all scans belong to.
    """

    side: str = ""
    series: str = ""
    picture: bool = True
    as_json: bool = False
    device: str = "auto"
    group: str = ""


def detect(pack: Path, scans: Sequence[Path], output: Path, options: Options) -> int:
    """Find the landmarks of scans, one after the other, and say one line of each.

    Args:
        pack: a file of `landmarkflow pack`.
        scans: files, or folders of DICOM series.
        output: folder of the answers: `<scan>.mrk.json`, `.json`, `.nii.gz` and `.png`.
        options: of the command line.

    Returns:
        0, or 1 where a scan has no landmarks.

    Raises:
        InputError: the pack cannot be used, a scan is not there, or two have one name.
    """
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    for scan in scans:
        if not scan.exists():
            raise InputError(f"{scan}: no such file, expected a scan")
    names = _names(scans)
    # What stages say of their work is in the records.
    logging.getLogger("landmarkflow").addHandler(logging.NullHandler())
    logging.getLogger("landmarkflow").propagate = False
    failed, seen = 0, dict[str, Path]()
    with Model(pack) as model:
        if others := model.other_code:
            sys.stderr.write(
                f"landmarkflow: {pack}: was made by other code of {', '.join(others)}: results "
                "may differ from its study's\n"
            )
        if options.side and not model.uses_sides:
            raise InputError(
                f"--side {options.side}: the template of {pack} states no side, so that no scan is "
                "mirrored: leave it out, or state the template's side in the study, run it and "
                "pack it again"
            )
        for number, (scan, name) in enumerate(zip(scans, names, strict=True), start=1):
            found = model.detect(
                scan,
                side=options.side,
                series=options.series,
                group=options.group,
                name=name,
                picture=options.picture,
            )
            if found.scan in seen:
                raise InputError(f"{scan}: has the name of {seen[found.scan]}, expected another")
            seen[found.scan] = scan
            _write(found, output)
            failed += found.status in ("failed", "refused")
            place = f"{number}/{len(scans)} " if len(scans) > 1 else ""
            unit = "pixels" if model.contents.unit == "px" else "mm"
            as_text = json.dumps(_plain(found, scan, output, unit))
            say(as_text if options.as_json else f"{place}{_line(found, unit)}")
    return 1 if failed else 0


def _names(scans: Sequence[Path]) -> list[str]:
    """What each scan is called: as its file or folder, with others above where two are alike.

    Raises:
        InputError: a scan is given twice.
    """
    if len(set(map(Path.resolve, scans))) < len(scans):
        raise InputError("a scan is given twice, expected each once")
    stems = [path.name[: -len(suffix_of(path)) if path.is_file() else None] for path in scans]
    names = list(stems)
    for stem in set(stems):
        alike = [place for place, other in enumerate(stems) if other == stem]
        if len(alike) > 1:
            found = [Found(scans[p], str(scans[p].resolve().with_name(stem))) for p in alike]
            for place, name in zip(alike, ids_of(found), strict=True):
                names[place] = name
    return names


def _write(found: Detection, output: Path) -> None:
    for role, path in found.files.items():
        if role in NAMES:
            with replacing(_target(found, output, role)) as beside:
                shutil.copyfile(path, beside)


def _target(found: Detection, output: Path, role: str) -> Path:
    return output / f"{found.scan}{NAMES[role]}"


def _line(found: Detection, unit: str) -> str:
    count = int((~found.landmarks.missing).sum())
    if found.status in ("failed", "refused"):
        return f"{found.scan}: {found.status}: {found.reason}"
    text = f"{found.scan}: {found.status}, {count} of {len(found.landmarks.labels)} landmarks"
    if np.isfinite(found.radius).any():
        text += f", radius {np.nanmedian(found.radius):.2f} {unit}"
    return f"{text}: {found.reason}" if found.reason else text


def _plain(found: Detection, scan: Path, output: Path, unit: str) -> dict[str, Any]:
    """A detection as plain data; a missing landmark, or radius, is null."""
    rows = zip(found.landmarks.labels, found.landmarks.positions, found.radius, strict=True)
    return {
        "scan": found.scan,
        "image": str(scan),
        "status": found.status,
        "reason": found.reason,
        "frame": "pixels" if unit == "pixels" else "LPS",
        "landmarks": {
            label: {
                "position": [float(x) for x in position] if np.isfinite(position).all() else None,
                "radius": float(radius) if np.isfinite(radius) else None,
            }
            for label, position, radius in rows
        },
        "files": {r: str(_target(found, output, r)) for r in found.files if r in NAMES},
    }
