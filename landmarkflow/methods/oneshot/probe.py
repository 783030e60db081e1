"""Whether any scan of the study can be used: what training for minutes is worth."""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path

from landmarkflow.core.errors import InputError, ScanFailure
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.volumes import read_volume
from landmarkflow.methods.oneshot.locate import locate, scan_greys, survey_of
from landmarkflow.methods.oneshot.settings import LocateSettings, NormaliseSettings

logger = logging.getLogger(__name__)

# The study's list of scans. It is read here without being an input of the rule: a network depends
# on the template alone, and an input that changes with every new scan would train it again.
SHEET = "samples.tsv"
# Reasons in one sentence; how many others there are is said.
MOST_NAMED = 10


def require_a_scan(batch: Batch) -> None:
    """Refuse to go on where no scan of the study can be read and located.

    The scans are read one after another until one can be used, most often the first. Those that
    the workflow simulates or fetches count as usable, and so do all where the list is not there.

    Args:
        batch: its settings are those of `locate`; its results folder holds the list of scans.

    Raises:
        InputError: no scan can be used; the sentence names each with its reason.
    """
    settings = batch.settings(LocateSettings, "locate")
    intensities = batch.settings(NormaliseSettings, "normalise")
    largest = int(batch.values["largest_gib"] * 2**30)
    survey, reasons = survey_of(batch), {}
    for scan, image, series in _images(batch.places.results):
        if image.is_relative_to(batch.places.results):
            return
        try:
            volume = read_volume(image, largest, series)
            greys = scan_greys(volume, intensities, survey)
            locate(volume, settings, intensities, survey, greys=greys.range)
        except (InputError, ScanFailure) as error:
            reasons[scan] = str(error)
        except OSError as error:
            reasons[scan] = f"{image}: {error.strerror}"
        else:
            logger.debug("%s can be used, so training is worth its time", scan)
            return
    if reasons:
        said = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:MOST_NAMED])
        more = len(reasons) - MOST_NAMED
        said += f"; and {more} more" if more > 0 else ""
        raise InputError(
            f"nothing is trained, since none of the study's {len(reasons)} scans can be used: "
            + said
        )


def _images(results: Path) -> Iterator[tuple[str, Path, str]]:
    """Each scan of the study, its image and series; scans to learn from are no such scans."""
    try:
        lines = (results / SHEET).read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for row in csv.DictReader(lines, delimiter="\t"):
        if not row.get("split"):
            yield row["scan"], Path(row["image"]), row.get("series") or ""
