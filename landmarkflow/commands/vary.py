"""`landmarkflow vary`: a folder of scans as other scanners and exports would have made them.

The copies go through the same study as the scans, and their errors stand beside each other: scans
of one change are one group.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from landmarkflow.commands.studies import say, tell
from landmarkflow.core.errors import InputError
from landmarkflow.core.files import table_text, write_text
from landmarkflow.formats.volumes import read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.images.changes import CHANGES
from landmarkflow.study.folder import (
    IMAGE_SUFFIXES,
    LANDMARK_SUFFIXES,
    identifier,
    images_in,
    named_in,
    references_in,
)

# Of a scan that is read, in memory.
LARGEST_BYTES = 8 * 2**30


def vary(folder: Path, output: Path, changes: Sequence[str], template: str) -> int:
    """Write a folder with every scan of another one under every change.

    Args:
        folder: with template/, scans/ and landmarks/.
        output: a folder that is not there yet.
        changes: names of `CHANGES`; all where none is given.
        template: the change of the template's scan; empty for none.

    Raises:
        InputError: the folder is none of a study, the output is there already, or there is no such
            change.
    """
    names = tuple(changes) or tuple(CHANGES)
    for name in (*names, *([template] if template else [])):
        if name not in CHANGES:
            raise InputError(f"there is no change {name!r}, expected one of {', '.join(CHANGES)}")
    if output.exists():
        raise InputError(f"{output}: is there already, expected a folder to make")
    if not (folder / "scans").is_dir() or not (folder / "template").is_dir():
        raise InputError(f"{folder}: holds no study, expected template/, scans/ and landmarks/")
    images = images_in(folder / "scans", tell)
    stems = [stem for stem, _ in images]
    landmarks = references_in(folder / "landmarks", LANDMARK_SUFFIXES, stems, tell)
    shutil.copytree(folder / "template", output / "template")
    if template:
        _change_template(output / "template", template)
    rows = [("scan", "group")]
    for number, (stem, path) in enumerate(images):
        scan = read_volume(path, LARGEST_BYTES)
        for name in names:
            copy = f"{identifier(stem)}_{name.replace('.', '-')}"
            random = np.random.default_rng([number, list(CHANGES).index(name)])
            write_volume(CHANGES[name].make(scan, random), output / f"scans/{copy}.nii.gz")
            if stem in landmarks:
                _copy(Path(landmarks[stem]), output / "landmarks", copy)
            rows.append((copy, CHANGES[name].what))
        say(f"{stem}: {len(names)} copies")
    write_text(output / "samples.tsv", table_text(rows, "\t"))
    return 0


def _copy(source: Path, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    suffix = source.name[source.name.index(".") :]
    shutil.copyfile(source, folder / f"{name}{suffix}")


def _change_template(folder: Path, change: str) -> None:
    found = named_in(folder, {"scan": IMAGE_SUFFIXES}, lambda line: None)["scan"]
    if not found or Path(found).is_dir():
        raise InputError(f"{folder}: found no scan of the template in one file, expected one")
    scan = read_volume(Path(found), LARGEST_BYTES)
    changed = CHANGES[change].make(scan, np.random.default_rng([0, 1]))
    Path(found).unlink()
    write_volume(changed, folder / "scan.nii.gz")
