"""`landmarkflow slicer`: a scene of 3D Slicer for each scan of a finished run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from landmarkflow.commands.review import finished_run, study_at
from landmarkflow.commands.studies import say
from landmarkflow.core.errors import InputError
from landmarkflow.data.stages import REFERENCES
from landmarkflow.formats.mrml import (
    Marked,
    Scene,
    Segment,
    segments_of,
    write_fcsv,
    write_scene,
    write_segments,
)
from landmarkflow.formats.pictures import read_picture
from landmarkflow.formats.scan_files import PICTURES
from landmarkflow.formats.slicer import read_point_lists
from landmarkflow.formats.volumes import read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.registry import METHODS
from landmarkflow.study.runs import Run
from landmarkflow.study.sheet import Scan
from landmarkflow.study.study import Study

FOLDER = "slicer"
DETECTED, REFERENCE, REVIEWED = (0.1, 0.83, 1.0), (1.0, 0.62, 0.11), (0.35, 0.8, 0.3)


@dataclass(frozen=True)
class Options:
    """What is written beside the scenes.

    Attributes:
        run: whose answers; empty where the study has one run.
        fcsv: whether points are written as 3D Slicer 4 reads them, too, and those are opened.
        scans: ids of the scans; none for all.
    """

    run: str = ""
    fcsv: bool = False
    scans: Sequence[str] = ()


def slicer(folder: Path, options: Options) -> int:
    """Write `<run>/slicer/<scan>.mrml` for each scan.

    Args:
        folder: of a finished study, results/<study>.
        options: the rest.

    Raises:
        InputError: the study is not finished, there is no such run or scan, or a scan that has to
            be converted cannot be read.
    """
    study, folder = study_at(folder), folder.resolve()
    run = finished_run(study, folder, options.run)
    for scan in options.scans:
        if scan not in study.scans:
            raise InputError(f"--scan {scan}: the study has no such scan")
    known = _segments(study, run)
    chosen = list(options.scans) or list(study.scans)
    for scan in chosen:
        scene = scene_of(study, run, folder, scan, known, fcsv=options.fcsv)
        write_scene(folder / run.name / FOLDER / f"{scan}.mrml", scene)
    say(f"{len(chosen)} scenes for 3D Slicer: {folder / run.name / FOLDER}")
    return 0


def scene_of(
    study: Study, run: Run, folder: Path, scan: str, known: Mapping[int, Segment], *, fcsv: bool
) -> Scene:
    """What a scan's scene shows; files that 3D Slicer cannot open as they are, are written.

    Args:
        study: the study.
        run: whose answers are shown.
        folder: of the study's results.
        scan: its id.
        known: names and colours of labels.
        fcsv: whether points are opened as 3D Slicer 4's.
    """
    home, beside = folder / run.name, folder / run.name / FOLDER
    files = {
        "detected": (home / f"landmarks/{scan}.mrk.json", DETECTED),
        "reference": (folder / REFERENCES.writes["reference"].format(scan=scan), REFERENCE),
        "reviewed": (home / f"reviewed/{scan}.mrk.json", REVIEWED),
    }
    marked = []
    for name, (path, colour) in files.items():
        if path.is_file() and path.stat().st_size:
            if fcsv:
                table = beside / f"{scan}.{name}.fcsv"
                write_fcsv(table, read_point_lists(path, scan)[0])
                path = table  # noqa: PLW2901 - what the scene opens
            marked.append(Marked(f"{scan} {name}", path, colour))
    labels, segments = home / f"segmentations/{scan}.nii.gz", beside / f"{scan}.seg.nrrd"
    segmented = labels.is_file() and labels.stat().st_size > 0
    if segmented:
        write_segments(labels, segments, known)
    image = _image_of(study, study.scans[scan], beside / f"{scan}.nrrd")
    in_colours = image.name.lower().endswith(PICTURES) and read_picture(image).shape[2] == 3
    return Scene(
        scan,
        image,
        in_colours,
        marked,
        segments if segmented else None,
        _transforms(run, folder, scan),
    )


def _segments(study: Study, run: Run) -> dict[int, Segment]:
    """Names and colours of labels, where the template's segmentation states them."""
    if study.template is None:
        return {}
    given = study.entry(run.template).segmentation
    return segments_of(Path(given)) if given else {}


def _image_of(study: Study, scan: Scan, copy: Path) -> Path:
    """The scan's own file; of a DICOM tree, of which one series counts, a volume of its own."""
    image = Path(scan.image).resolve()
    if not image.is_dir():
        return image
    largest = int(study.config.data.largest_gib * 2**30)
    write_volume(read_volume(image, largest, scan.series), copy)
    return copy


def _transforms(run: Run, folder: Path, scan: str) -> dict[str, Path]:
    """Each transform that the run's method leaves of a scan, by stage, where it is there."""
    found = {}
    for stage in METHODS[run.method].stages:
        for role, pattern in stage.writes.items():
            if pattern.endswith(".tfm"):
                path = folder / pattern.format(run=run.name, scan=scan, template=run.template)
                if path.is_file() and path.stat().st_size:
                    found[f"{stage.name} {role}" if role != stage.name else role] = path
    return found
