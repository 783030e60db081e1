"""What each scan holds: its size and digest, by which every later stage knows its content."""

import logging
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import check_readable, sha256, write_json
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.scan_files import digest_of, files_of

logger = logging.getLogger(__name__)


def run(batch: Batch) -> None:
    """Write each scan's image, and number, size and SHA-256 of the files that it consists of.

    A header that names no usable data file is taken alone, and what is no file as nothing: whoever
    reads the scan refuses it.

    Raises:
        InputError: the machine does not let a file be read.
    """
    for task in batch.tasks:
        image = Path(task.row["image"])
        check_readable(image)
        try:
            files, digest = files_of(image), digest_of(image)
        except InputError as error:
            logger.warning("%s: %s", task.scan, error)
            files = [image] if image.is_file() else []
            digest = sha256(image) if files else ""
        content = {
            "scan": task.scan,
            "image": str(image),
            "files": len(files),
            "bytes": sum(file.stat().st_size for file in files),
            "sha256": digest,
        }
        write_json(task.outputs["record"], content)
