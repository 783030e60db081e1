"""A study of a folder of pictures: what its tables teach, by each method that can learn it."""

from pathlib import Path
from typing import Any

import yaml

from landmarkflow.commands.studies import PROGRAM, say, workflow_of
from landmarkflow.core.errors import InputError
from landmarkflow.core.files import write_text
from landmarkflow.engine.method import Method
from landmarkflow.registry import METHODS
from landmarkflow.study.pictures import LANDMARKS, LOOKS, TRAINING

FOLDS = 5
# What a method that needs no template learns from, and the table that holds it.
TABLES = {"landmarks": LANDMARKS, "gaze": LOOKS}


def init_pictures(folder: Path, study: Path, name: str) -> int:
    """Write a study of a folder of pictures, and say what was made of each picture.

    Args:
        folder: with `images/`, tables beside it, and perhaps `training/`.
        study: the file to write.
        name: of the study.

    Raises:
        InputError: there is nothing to learn from, or a table cannot be used.
    """
    taught = folder / TRAINING if (folder / TRAINING).is_dir() else folder
    methods = [method for method in METHODS.values() if _learns(method, taught)]
    if not methods:
        raise InputError(
            f"{taught}: holds none of {', '.join(TABLES.values())}, expected one of them, to learn "
            "from"
        )
    data: dict[str, Any] = {"folder": str(folder.resolve())}
    if taught == folder:
        data["folds"] = FOLDS
    runs = {method.name: {"method": method.name} for method in methods}
    stated = {"study": name, "unit": "px", "data": data, "runs": runs}
    write_text(study, yaml.safe_dump(stated, sort_keys=False, allow_unicode=True))
    try:
        found = workflow_of(str(study)).study
    except InputError:
        study.unlink()
        raise
    for scan, entry in {**found.scans, **found.training}.items():
        said = [f"{scan}: {entry.image}"]
        said += [what for what in ("landmarks", "gaze") if getattr(entry, what)]
        said += ["to learn from"] if scan in found.taught else []
        said += [f"a pixel is {entry.spacing:g} {found.config.unit}"] if entry.spacing else []
        said += [f"group {entry.group}"] if entry.group else []
        say(f"picture   {', '.join(said)}")
    say(
        f"{len(found.scans)} pictures, {len(found.taught)} to learn from, landmarks "
        f"{', '.join(found.labels) or 'to be discovered'}: {study}"
    )
    say(f"Next: {PROGRAM} check {study}; {PROGRAM} run {study}")
    return 0


def _learns(method: Method, folder: Path) -> bool:
    table = TABLES.get(method.learns_from)
    return not method.needs_template and table is not None and (folder / table).is_file()
