"""What a pack finds in a scan: the stages of its run, one after the other, in this process."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_json
from landmarkflow.core.points import Landmarks
from landmarkflow.core.records import TEMPLATE, Record, Status, read_record, worst_of, write_nothing
from landmarkflow.data.stages import REFERENCES, SCANS
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.cli import THREAD_VARIABLES, run_stage
from landmarkflow.engine.stage import Stage
from landmarkflow.formats.scan_files import suffix_of
from landmarkflow.formats.slicer import read_point_lists
from landmarkflow.formats.written import write_volume
from landmarkflow.packs.contents import Contents, Part, other_code, patterns_written, places_of
from landmarkflow.packs.opened import unpack
from landmarkflow.registry import STAGES

logger = logging.getLogger(__name__)

LONGEST_ID = 60
SIDES = ("", "left", "right")


@dataclass(frozen=True, eq=False)
class Detection:
    """What was found in one scan.

    Attributes:
        scan: its id, made of its file's name.
        status: ok, doubtful, failed or refused.
        reason: why it is not ok, else empty.
        landmarks: n names and (n, 3) positions, LPS mm (pixels of a picture); none where the scan
            failed, a row of NaN where a landmark is missing.
        radius: (n,) mm or pixels, within which 9 of 10 true places are expected; NaN where there
            is none.
        record: what the run's last stage says, with all that the earlier ones said.
        files: what was written, by role: `landmarks`, `record`, `found` (the segmentation) and
            `picture`; they are deleted with the model that made them.
    """

    scan: str
    status: Status
    reason: str
    landmarks: Landmarks
    radius: NDArray[np.float64]
    record: Record
    files: Mapping[str, Path] = field(default_factory=dict)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let the libraries use one processor, as a run's own jobs do: more change the last digits."""
    for variable in THREAD_VARIABLES:
        os.environ.setdefault(variable, "1")
    of_itk = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    of_torch = torch.get_num_threads()
    try:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        torch.set_num_threads(1)
        with threadpool_limits(1):
            yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(of_itk)
        torch.set_num_threads(of_torch)


class Model:
    """A pack that was opened; its files lie in a temporary folder until it is closed."""

    def __init__(self, path: str | Path) -> None:
        """Open a pack.

        Raises:
            InputError: the file is none, damaged, or one that this program cannot use.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="landmarkflow-")
        self._stages = {stage.command: stage for stage in STAGES}
        self._results = Path(self._folder.name)
        try:
            self.contents: Contents = unpack(Path(path), self._results, self._stages)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Itself, to be closed at the end of the block."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Delete its files, and those of what it found."""
        self._folder.cleanup()

    @property
    def other_code(self) -> list[str]:
        """Stages whose code differs from that which made the pack: their results may differ."""
        return other_code(self.contents, self._stages)

    @property
    def uses_sides(self) -> bool:
        """Whether a scan's side tells anything: not where a template is used that states none."""
        sided = [(p, self._stages[p.command]) for p in self.contents.parts]
        return any(
            part.side or not any("{template}" in pattern for pattern in stage.reads.values())
            for part, stage in sided
            if "side" in stage.columns
        )

    def detect(
        self,
        image: str | Path | sitk.Image,
        *,
        side: str = "",
        series: str = "",
        group: str = "",
        name: str = "",
        picture: bool = False,
    ) -> Detection:
        """Find the landmarks of one scan, as the study would.

        Args:
            image: a file that the study could read, a folder of a DICOM series, or an image.
            side: left or right, which the scan shows; empty where it is not known.
            series: number or UID of the DICOM series, where a folder holds several.
            group: of the study's groups that the scan belongs to, such as the plane of a picture.
            name: what the scan is called, instead of its file's name. A scan that the run learned
                from is known by its content, and called as in the study.
            picture: whether the scan is drawn with what was found, too.

        Raises:
            InputError: there is no such file, or the side is none.
        """
        if side not in SIDES:
            raise InputError(f"side is {side!r}, expected left or right, or nothing")
        if isinstance(image, sitk.Image):
            path = self._results / "given.nii.gz"
            write_volume(image, path)
        else:
            path = Path(image)
            if not path.exists():
                raise InputError(f"{path}: no such file, expected a scan")
            if path.is_file():
                suffix_of(path)
        with one_thread():
            row = {"image": str(path.resolve()), "side": side, "series": series, "group": group}
            return self._detected(self._id_of(path, row, name), row, picture)

    def _detected(self, scan: str, row: Mapping[str, str], picture: bool) -> Detection:
        written: dict[str, Path] = {}
        for part in self.contents.parts:
            stage = self._stages[part.command]
            if "picture" not in stage.writes or picture:
                self._run(part, stage, scan, row)
                if part.run == self.contents.run:
                    written |= self._products(part, stage, scan)
        return self._detection(scan, written)

    def _id_of(self, path: Path, row: Mapping[str, str], name: str) -> str:
        """An id that no scan of the study has, unless it is that scan, whatever its file's name."""
        stem = name or path.name
        for suffix in () if name else (".gz", ".nii", path.suffix if path.is_file() else ""):
            stem = stem.removesuffix(suffix) if suffix else stem
        scan = re.sub(r"[^A-Za-z0-9_-]", "-", stem).lstrip("-_")[:LONGEST_ID] or "scan"
        taken = {TEMPLATE, *self.contents.known, *(part.template for part in self.contents.parts)}
        if self.contents.known:
            self._run(self.contents.parts[0], SCANS, scan, row)
            found = read_json(self._results / SCANS.writes["record"].format(scan=scan))["sha256"]
            same = [s for s, digest in self.contents.known.items() if digest and digest == found]
            if same:
                return scan if scan in same else same[0]
        return f"{scan}-new" if scan in taken else scan

    def _run(self, part: Part, stage: Stage, scan: str, row: Mapping[str, str]) -> None:
        places = places_of(part, self._results)
        reference = REFERENCES.writes["reference"]
        if reference in stage.reads.values():
            write_nothing(places.path(reference, scan))
        columns = dict.fromkeys(stage.columns, "")
        sheet = {
            scan: columns | {c: row[c] for c in columns if c in row},
            TEMPLATE: columns | ({"side": part.side} if "side" in columns else {}),
        }
        batch = Batch(stage, places, (scan,), part.values, sheet, part.peers, part.of)
        run_stage(stage, batch)

    def _products(self, part: Part, stage: Stage, scan: str) -> dict[str, Path]:
        """What a part wrote for people, of a scan."""
        patterns = patterns_written(part, stage)
        files = {r: self._results / p.replace("{scan}", scan) for r, p in patterns.items()}
        return {r: p for r, p in files.items() if "/work/" not in patterns[r]}

    def _detection(self, scan: str, written: Mapping[str, Path]) -> Detection:
        record = read_record(written["record"])
        files = {role: path for role, path in written.items() if path.stat().st_size}
        lists = read_point_lists(files["landmarks"], scan) if "landmarks" in files else []
        landmarks = lists[0].landmarks if lists else Landmarks((), np.empty((0, 3)))
        radius = lists[0].radius if lists else None
        if radius is None:
            radius = np.full(len(landmarks.labels), np.nan)
        said = [step.reason for step in record.chain if step.reason]
        reason = "; ".join(dict.fromkeys(said))
        return Detection(scan, worst_of(record.chain), reason, landmarks, radius, record, files)
