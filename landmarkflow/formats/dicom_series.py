"""Which files of a DICOM tree are a scan: one series of slices among all that archives export.

Only headers are read here, so that what lists and hashes files starts fast.
"""

import filecmp
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import files_below
from landmarkflow.formats import dicom_header as dicom
from landmarkflow.formats.dicom_header import DicomHeader, items_of, read_dicom_header

# Kinds of files: images, also where their voxels are lost; pictures of screens; and what has voxels
# but is no scan (segmentations, doses).
_IMAGES, _SCREENS, _NO_SCANS = ("1", "2", "4", "7", "12", "20", "128", "130"), "7", ("66", "481")
# Cosines of a row and a column that differ by more are those of another view.
_SAME_VIEW = 1e-2
# Of series and of files: more are counted.
_MOST_NAMED = 10
_CHOOSE = "by `series`, a number or UID, in the sheet or beside the template"
_SIZE = (dicom.COLUMNS, dicom.ROWS)


@dataclass(frozen=True, eq=False)
class Series:
    """The files of a tree that state one SeriesInstanceUID, sorted.

    Attributes:
        headers: of all files.
        images: of those that are images; scouts only where there is nothing else.
    """

    headers: tuple[DicomHeader, ...]
    images: tuple[DicomHeader, ...]

    def stated(self, tag: int) -> str:
        """What the first file that states it says."""
        return next((text for one in self.headers if (text := one.text(tag))), "")

    @property
    def uid(self) -> str:
        """The SeriesInstanceUID, empty where the files state none."""
        return self.stated(dicom.SERIES)

    @property
    def number(self) -> str:
        """The SeriesNumber."""
        return self.stated(dicom.SERIES_NUMBER)

    @property
    def is_scouts(self) -> bool:
        """Whether all of its images are scouts."""
        return all(_is_scout(one) for one in self.images)

    @property
    def is_volume(self) -> bool:
        """Whether it has several slices in space, in one view, of grey values, not of a screen."""
        if not self.images:
            return False
        first = self.images[0]
        return (
            sum(one.count(dicom.FRAMES) for one in self.images) > 1
            and bool(first.text(dicom.POSITION) or items_of(first.item, dicom.PER_FRAME))
            and first.kind != _SCREENS
            and first.text(dicom.PHOTOMETRIC).startswith("MONOCHROME")
            and _in_one_view(self.images)
        )

    def __str__(self) -> str:
        """What people know a series by: number, description, modality, count, size, UID."""
        name = self.stated(dicom.SERIES_NAME)
        held = f"{len(self.headers)} files without images"
        if self.images:
            size = " x ".join(self.images[0].text(tag) or "?" for tag in _SIZE)
            held = f"{sum(one.count(dicom.FRAMES) for one in self.images)} images of {size}"
        facts = [self.stated(dicom.MODALITY), held, f"UID {self.uid or 'absent'}"]
        named = f"series {self.number or 'without a number'}" + (f' "{name}"' if name else "")
        return f"{named} ({', '.join(filter(None, facts))})"


@dataclass(frozen=True, eq=False)
class Chosen:
    """The series of a tree that is the scan, and what lies beside it.

    Attributes:
        series: the one that is read, without copies of its files.
        others: the other series.
        passed_over: paths, relative to the tree, of files that are not read.
    """

    series: Series
    others: tuple[Series, ...]
    passed_over: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        """The files that are read, sorted."""
        return [one.path for one in self.series.images]

    @property
    def said(self) -> str:
        """What is to be told: which series was taken, where there was anything else."""
        told = ""
        if self.others:
            told = f"takes {self.series}, not {_listed([str(one) for one in self.others])}; "
        if self.passed_over:
            named = _listed(self.passed_over)
            told += f"passed over what is no slice of its series: {named}; "
        return told.removesuffix("; ")


def choose_series(folder: Path, wanted: str = "") -> Chosen:
    """Finds the one series of slices in a folder and all folders below it.

    Args:
        folder: the tree.
        wanted: number or UID of the series; by default the one that is a volume, or else the one
            that has images.

    Raises:
        InputError: There is none, or there are several, all of which the sentence names; or a file
            of the series is not whole.
    """
    files = files_below(folder)
    found = series_below(files)
    series = _wanted(found, wanted, files) if wanted else _only(found, files)
    for one in series.images:
        with about(one.path):
            one.check_voxels()
    series = Series(series.headers, _without_copies(series.images))
    used = {one.path for one in series.images}
    over = tuple(str(path.relative_to(folder)) for path in files if path not in used)
    return Chosen(series, tuple(one for one in found if one.uid != series.uid), over)


def series_below(files: Sequence[Path]) -> list[Series]:
    """The series of all DICOM files, in the order of their first files."""
    by_uid: dict[str, list[DicomHeader]] = {}
    for path in files:
        with about(path):
            header = read_dicom_header(path)
            if header is None and path.suffix.lower() == ".dcm":
                raise InputError("is no DICOM file, expected a whole slice")
            if header is None or path.name.upper() == "DICOMDIR":
                continue
            uid = header.text(dicom.SERIES)
            if not uid and _is_image(header):
                # Cut so short that it may be a slice of any series.
                header.check_voxels()
        by_uid.setdefault(uid, []).append(header)
    series = []
    for headers in by_uid.values():
        images = [one for one in headers if _is_image(one)]
        slices = [one for one in images if not _is_scout(one)]
        series.append(Series(tuple(headers), tuple(slices or images)))
    return series


def _only(found: Sequence[Series], files: Sequence[Path]) -> Series:
    """The one series that may be the scan."""
    some = [one for one in found if one.images]
    some = [one for one in some if not one.is_scouts] or some
    if len(some) > 1:
        some = [one for one in some if one.is_volume] or some
    if len(some) == 1:
        return some[0]
    if some:
        held = _listed([str(one) for one in some])
        raise InputError(
            f"holds {len(some)} series that may be the scan, expected one, chosen {_CHOOSE}: {held}"
        )
    raise InputError(f"holds no DICOM images ({_held(found, files)}), expected a series of slices")


def _wanted(found: Sequence[Series], wanted: str, files: Sequence[Path]) -> Series:
    """The series of a number or UID."""
    meant = [one for one in found if one.uid == wanted]
    meant = meant or [one for one in found if _same_number(one.number, wanted)]
    if len(meant) == 1 and meant[0].images:
        return meant[0]
    if not meant:
        held = _held([one for one in found if one.images], files)
        raise InputError(f"holds no series {wanted} ({held}), expected one of those that it holds")
    held = _listed([str(one) for one in meant])
    if len(meant) > 1:
        raise InputError(f"holds several series {wanted}, expected the UID of one: {held}")
    raise InputError(f"holds no images in {held}, expected a series of slices")


def _held(found: Sequence[Series], files: Sequence[Path]) -> str:
    """What a tree holds, where that is not what was looked for."""
    if found:
        return f"found: {_listed([str(one) for one in found])}"
    return f"files found: {len(files)}, in folders: {len({path.parent for path in files})}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _same_number(one: str, other: str) -> bool:
    return one.isdecimal() and other.isdecimal() and int(one) == int(other)


def _without_copies(images: Sequence[DicomHeader]) -> tuple[DicomHeader, ...]:
    """The images, each once, also where a file lies there as a copy too."""
    once: list[DicomHeader] = []
    instances: dict[str, Path] = {}
    for one in images:
        same = instances.setdefault(one.text(dicom.INSTANCE) or one.path.name, one.path)
        if same is one.path or not filecmp.cmp(same, one.path, shallow=False):
            once.append(one)
    return tuple(once)


def _is_image(header: DicomHeader) -> bool:
    """Whether a file is an image, perhaps one that lost its voxels, by what it says that it is."""
    if header.kind in ("", *_IMAGES):
        return True
    has_pixels = header.voxels is not None or header.text(dicom.ROWS) != ""
    return has_pixels and header.kind not in _NO_SCANS


def _is_scout(header: DicomHeader) -> bool:
    return "LOCALIZER" in header.text(dicom.IMAGE_TYPE)


def _in_one_view(images: Sequence[DicomHeader]) -> bool:
    """Whether no two images state other rows and columns, as survey images in three planes do."""
    try:
        views = [
            [float(part) for part in text.split("\\")]
            for one in images
            if (text := one.text(dicom.ORIENTATION))
        ]
    except ValueError:
        # Whoever reads the series has more to say.
        return True
    return all(
        len(view) == len(views[0])
        and max(abs(a - b) for a, b in zip(view, views[0], strict=True)) <= _SAME_VIEW
        for view in views
    )
