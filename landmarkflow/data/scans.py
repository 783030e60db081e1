"""What each scan holds: its size and digest, by which every later stage knows its content."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import check_readable, write_json
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.dicom_series import choose_series
from landmarkflow.formats.scan_files import digest_of, files_of

logger = logging.getLogger(__name__)


def run(batch: Batch) -> None:
    """Write each scan's image, and number, size and SHA-256 of the files that are read of it.

    Of a DICOM tree these are the slices of one series; which it is, and what lies beside it, is
    written, too. Of a scan that cannot be read all of its files count, and of a header that names
    no usable data file that alone: whoever reads the scan refuses it.

    Raises:
        InputError: the machine does not let a file be read.
    """
    for task in batch.tasks:
        image = Path(task.row["image"])
        check_readable(image)
        series: dict[str, Any] = {}
        try:
            files, series = _read_of(image, task.row)
        except InputError as error:
            logger.warning("%s: %s", task.scan, error)
            files = files_of(image) if image.is_dir() else [image] if image.is_file() else []
        content = {
            "scan": task.scan,
            "image": str(image),
            **series,
            "files": len(files),
            "bytes": sum(file.stat().st_size for file in files),
            "sha256": digest_of(files) if files else "",
        }
        write_json(task.outputs["record"], content)


def _read_of(image: Path, row: Mapping[str, str]) -> tuple[list[Path], dict[str, Any]]:
    """The files that are read of a scan and, of a DICOM tree, which series they are."""
    if not image.is_dir():
        return files_of(image), {}
    with about(image):
        chosen = choose_series(image, row["series"])
    if chosen.said:
        logger.info("%s: %s", image, chosen.said)
    beside = [str(one) for one in chosen.others]
    return chosen.files, {"series": str(chosen.series), "beside": beside}
