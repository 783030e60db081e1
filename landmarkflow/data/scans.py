"""What each scan's files hold: sizes and digests, by which every later stage takes its content."""

import logging
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import check_readable, sha256, write_json
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.scan_files import files_of

logger = logging.getLogger(__name__)


def run(batch: Batch) -> None:
    """Write each scan's image, and name, size and SHA-256 of every file that it consists of.

    A header that names no usable data file is taken alone: whoever reads the scan refuses it.

    Raises:
        InputError: the machine does not let a file be read.
    """
    for task in batch.tasks:
        image = Path(task.row["image"])
        check_readable(image)
        try:
            files = files_of(image)
        except InputError as error:
            logger.warning("%s: %s", task.scan, error)
            files = [image] if image.is_file() else []
        listed = [
            {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in files
        ]
        content = {"scan": task.scan, "image": str(image), "files": listed}
        write_json(task.outputs["record"], content)
