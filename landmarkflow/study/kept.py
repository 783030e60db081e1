"""What a study's results folder keeps: whose results they are, and those of scans that left it."""

import re
from collections.abc import Collection, Iterable
from datetime import date
from pathlib import Path

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import read_json, write_json
from landmarkflow.core.records import TEMPLATE
from landmarkflow.study.config import FORMER_SCANS, ID, StudyConfig
from landmarkflow.study.folder import MOST_NAMED, Tell

SOURCE = "work/source.json"
# What lies here is given, or made without any scan; to fetch it again may not be possible.
GIVEN = "work/data/"


def source_said(config: StudyConfig) -> str:
    """Where a study's scans come from, in words that are the same as long as it is the same."""
    data = config.data
    if data.folder:
        return f"the folder {Path(data.folder).resolve()}"
    if data.sheet is not None:
        return f"the sheet {Path(data.sheet.sheet).resolve()}"
    return f"the origin {data.origin.url}" if data.origin is not None else "the simulated cohort"


def check_source(config: StudyConfig, results: Path) -> None:
    """Refuse to put the results of other scans into a folder that holds those of some.

    Args:
        config: the study.
        results: its results folder.

    Raises:
        InputError: a run of the study whose scans came from elsewhere left results there.
    """
    path = results / SOURCE
    if not path.exists():
        return
    with about(path):
        data = read_json(path)
        if not isinstance(data, dict) or not isinstance(data.get("source"), str):
            raise InputError('has no "source", expected where the scans came from')
    now = source_said(config)
    if data["source"] != now:
        raise InputError(
            f"{results}: holds results of {data['source']}, but the scans of this run are those of "
            f"{now}, expected one source for each study; give this study another name (`study`), "
            f"or move {results} away; where the same scans have only moved, delete {path}"
        )


def remember_source(config: StudyConfig, results: Path) -> None:
    """Write where the scans come from, for later runs."""
    if not (results / SOURCE).exists():
        write_json(results / SOURCE, {"source": source_said(config)})


def set_aside(
    results: Path,
    patterns: Iterable[str],
    scans: Collection[str],
    others: Collection[str],
    tell: Tell,
) -> list[str]:
    """Move the results of scans that are no longer in a study into a folder of the day.

    Nothing is deleted. A scan that comes back is known to the store.

    Args:
        results: the study's results folder.
        patterns: of all files of a scan, as stages write them.
        scans: ids of the scans in which runs look for landmarks.
        others: ids of templates and of scans to learn from, of which there are shared files alone.
        tell: is told in one line of what was moved.

    Returns:
        The ids of the scans.
    """
    of_run = {*scans, TEMPLATE}
    gone: dict[str, list[Path]] = {}
    for pattern in sorted({one for one in patterns if _is_result(one)}):
        known = of_run if pattern.startswith("{run}/") else {*of_run, *others}
        name = re.compile(
            re.escape(pattern)
            .replace(re.escape("{run}"), "[^/]+")
            .replace(re.escape("{scan}"), f"(?P<scan>{ID})", 1)
        )
        for path in results.glob(pattern.format(run="*", scan="*")):
            found = name.fullmatch(path.relative_to(results).as_posix())
            if found and found["scan"] not in known:
                gone.setdefault(found["scan"], []).append(path)
    if not gone:
        return []
    folder = _new_folder(results / FORMER_SCANS)
    for path in (path for paths in gone.values() for path in paths):
        there = folder / path.relative_to(results)
        there.parent.mkdir(parents=True, exist_ok=True)
        path.rename(there)
    names = sorted(gone)
    said = ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")
    tell(
        f"{results}: results of scans that are no longer in the study ({len(names)}: {said}) were "
        f"moved to {folder}"
    )
    return names


def _is_result(pattern: str) -> bool:
    return pattern.count("{scan}") == 1 and not pattern.startswith(GIVEN)


def _new_folder(parent: Path) -> Path:
    """A folder that is not there yet, named for the day."""
    today = date.today().isoformat()
    names = [today, *(f"{today}-{number}" for number in range(2, 1000))]
    folder = next(parent / name for name in names if not (parent / name).exists())
    folder.mkdir(parents=True)
    return folder
