"""The gallery of doubts: faulty scans of the tests, what a run says of each, and what to do.

Usage: python docs/gallery.py RUN, where RUN is the finished run of tests/studies/tiny.yaml,
results/tiny/oneshot. Writes docs/gallery.md and the pictures beside it.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

from landmarkflow.cohorts.settings import side_of
from landmarkflow.cohorts.simulate import simulate_subject
from landmarkflow.commands.pack import pack_run
from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing, write_text
from landmarkflow.core.points import Landmarks
from landmarkflow.formats.volumes import read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import grid_of
from landmarkflow.packs.model import Detection, Model
from landmarkflow.report.figures import png_bytes
from landmarkflow.report.pictures import draw_overview
from landmarkflow.report.settings import ReportSettings

ROOT = Path(__file__).parents[1]
PICTURES = "gallery"
SHOWN = "CENTER"
SETTINGS = ReportSettings(dpi=70)
QUALITY = 55


@dataclass(frozen=True)
class Fault:
    """A faulty scan.

    Attributes:
        name: of its picture.
        what: what is wrong with it, in a few words.
        do: what to do.
        scan: the image, or the bytes of a file.
        side: that is stated.
        truth: true places, where they are known.
    """

    name: str
    what: str
    do: str
    scan: sitk.Image | bytes
    side: str
    truth: Landmarks | None = None


WHOLE = "Nothing: a scan beyond doubt, for comparison."
OTHER = "Take the scan out of the study; it shows no such target."
TEXTS = {
    "good": ("a scan as it should be", WHOLE),
    "half": (
        "the scan ends in the middle of the target",
        "Landmarks beyond the border are guesses: mark them as not visible in `review`.",
    ),
    "cut-before-1": (
        "the scan ends 1 mm before the apex",
        "Only what is seen can be trusted: the radius of the landmark beyond is larger.",
    ),
    "erased": ("the target is replaced by soft tissue", OTHER),
    "noise-alone": ("noise and nothing else", OTHER),
    "air": ("a scan of air", OTHER),
    "another-animal": (
        "another kind of bone",
        "Another anatomy needs a template, and so a study, of its own.",
    ),
    "noisy": (
        "noise six times as strong as usual",
        "Nothing: as much noise as this is no hindrance. With more, radii grow.",
    ),
    "metal": (
        "a screw beside the target, with streaks",
        "Nothing here; where metal lies closer, look at the landmarks beside it.",
    ),
    "upside-down": (
        "the scan is turned by half a turn about the left-right axis",
        "Nothing: a target is found however it lies. That a header is wrong is not told.",
    ),
    "mirrored": (
        "the scan is a mirror image, or its side is stated wrongly",
        "Check the sheet's column `side`, and that no converter mirrored the image.",
    ),
    "both-unstated": (
        "two ears in one scan, and no side is stated",
        "State the `side` in the sheet: it says which ear is meant.",
    ),
    "cut-off": ("half of the file is missing", "Copy the file again from where it came."),
}
# Between these lines of the page stands what is written here.
BEGIN, END = "<!-- what a run said -->\n", "<!-- end of what a run said -->\n"


def faults() -> Iterator[Fault]:
    """The tests' faulty scans of one ear."""
    sys.path.insert(0, str(ROOT / "tests"))
    import test_cut_scans as cuts  # noqa: PLC0415
    import test_faults as tests  # noqa: PLC0415

    subject = simulate_subject(tests.COHORT.anatomy, tests.COHORT.seed, tests.EAR)
    side = side_of(tests.COHORT.anatomy, tests.COHORT.seed, tests.EAR)
    scan, truth = subject.scan, subject.landmarks
    centre = truth.positions.mean(axis=0)
    places = dict(zip(truth.labels, truth.positions, strict=True))
    scans = {"good": scan, "half": tests.half(scan, centre)}
    scans["cut-before-1"] = cuts.cut_off(scan, places, cuts.CUTS["cut-before-1"])
    scans |= {name: tests.spoilt(scan, centre, fault) for name, fault in tests.FAULTS.items()}
    scans["both-unstated"] = cuts.beside_its_mirror_image(scan)
    truths = {name: truth for name in scans if name not in ("erased", "noise-alone", "air")}
    truths.pop("another-animal")
    middle = grid_of(scan).centre
    for name, signs in tests.TURNS.items():
        scans[name] = tests.turned(scan, signs)
        moved = middle + np.array(signs) * (truth.positions - middle)
        truths[name] = Landmarks(truth.labels, moved)
    for name, image in scans.items():
        stated = "" if name == "both-unstated" else side
        yield Fault(name, *TEXTS[name], image, stated, truths.get(name))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole.nii.gz"
        write_volume(scan, path)
        whole = path.read_bytes()
    yield Fault("cut-off", *TEXTS["cut-off"], whole[: len(whole) // 2], side)


def entry(fault: Fault, model: Model, folder: Path) -> str:
    """Finds the landmarks of a faulty scan, draws it, and returns what the page says of it."""
    path = folder / f"{fault.name}.nii.gz"
    if isinstance(fault.scan, bytes):
        path.write_bytes(fault.scan)
    else:
        write_volume(fault.scan, path)
    found = model.detect(path, side=fault.side)
    picture = ROOT / f"docs/{PICTURES}/{fault.name}.webp"
    reason = found.reason.replace(f"{folder}/", "")
    lines = [f"## {fault.what[0].upper()}{fault.what[1:]}", ""]
    if draw(fault, found, path, picture):
        lines += [f"![{fault.what}]({PICTURES}/{picture.name})", ""]
    count = int((~found.landmarks.missing).sum())
    said = f"**{found.status}**, {count} of {len(found.landmarks.labels)} landmarks"
    if fault.truth is not None and count:
        error = found.landmarks.positions - fault.truth.select(found.landmarks.labels).positions
        said += f", the largest error {np.nanmax(np.linalg.norm(error, axis=1)):.1f} mm"
    if np.isfinite(found.radius).any():
        said += f", the largest radius {np.nanmax(found.radius):.1f} mm"
    lines += [f"{said}{f': “{reason}”' if reason else ''}", "", fault.do, ""]
    return "\n".join(lines)


def draw(fault: Fault, found: Detection, path: Path, picture: Path) -> bool:
    """Draws a scan in three views through one landmark; returns whether it can be read."""
    try:
        scan = read_volume(path)
    except InputError:
        return False
    chosen = (SHOWN,) if SHOWN in found.landmarks.labels else ()
    seen = found.landmarks.select(chosen)
    reference = fault.truth.select(chosen) if fault.truth is not None and chosen else None
    if seen.missing.all():
        # Without any place there is one row through the middle of the scan.
        seen, reference = Landmarks((), np.empty((0, 3))), None
    title = fault.what
    figure = draw_overview(
        scan=scan, detected=seen, reference=reference, title=title, note=None, settings=SETTINGS
    )
    with Image.open(io.BytesIO(png_bytes(figure))) as drawn, replacing(picture) as beside:
        drawn.convert("RGB").save(beside, format="WEBP", quality=QUALITY, method=6)
    return True


def main() -> None:
    """Writes the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="results/tiny/oneshot, finished")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pack_run(chosen.run, folder / "ear.lmk")
        with Model(folder / "ear.lmk") as model:
            entries = [entry(fault, model, folder) for fault in faults()]
    page = ROOT / "docs/gallery.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    write_text(page, f"{before}{BEGIN}\n" + "\n".join(entries) + f"\n{END}{after}")


if __name__ == "__main__":
    main()
