"""DICOM folders as scanners, archives and exports leave them, written with pydicom."""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import dcmread, uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence as Items

from landmarkflow.core.errors import InputError
from landmarkflow.formats.heard import heard
from landmarkflow.formats.volumes import read_grid, read_volume
from landmarkflow.images.operations import array_of

SHAPE = (20, 24)
SLICES = 5
READERS = [read_volume, read_grid]
Change = Callable[[int, Dataset], object]


def stored() -> NDArray[np.uint16]:
    """Voxels of five slices, 12 bits, with runs of alike ones and with noise."""
    values = np.random.default_rng(0).integers(0, 3000, (SLICES, *SHAPE)).astype(np.uint16)
    values[:, :6] = 1000
    return values


HOUNSFIELD = stored().astype(int) - 1024


def dataset(sop_class: str = uid.CTImageStorage) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    data.Modality, data.StudyInstanceUID, data.SeriesInstanceUID = "CT", "1.2.3", "1.2.3.4"
    return data


def image(voxels: NDArray[Any], sop_class: str = uid.CTImageStorage) -> FileDataset:
    data = dataset(sop_class)
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.Rows, data.Columns = SHAPE
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = voxels.tobytes()
    return data


def slice_of(number: int) -> FileDataset:
    data = image(stored()[number])
    data.InstanceNumber = number + 1
    data.ImagePositionPatient = [-10, 20, 1.5 * number]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing = [0.5, 0.4]
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    return data


def save(data: FileDataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def series(folder: Path, change: Change = lambda number, data: None, prefix: str = "") -> Path:
    for number in range(SLICES):
        data = slice_of(number)
        change(number, data)
        save(data, folder / f"{prefix}{number}.dcm")
    return folder


def one(data: Dataset) -> Items:
    return Items([data])


def part(**values: Any) -> Items:
    data = Dataset()
    for name, value in values.items():
        setattr(data, name, value)
    return one(data)


def enhanced(
    order: Sequence[int], own: Callable[[int], float] | None = None, sop_class: str = ""
) -> FileDataset:
    """All slices as frames of one file, in an order; rescaled alike or each in its own way."""
    data = image(stored()[list(order)], sop_class or uid.EnhancedCTImageStorage)
    data.NumberOfFrames = SLICES
    shared = Dataset()
    shared.PixelMeasuresSequence = part(PixelSpacing=[0.5, 0.4], SliceThickness=7)
    shared.PlaneOrientationSequence = part(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    if own is None:
        values = part(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
        shared.PixelValueTransformationSequence = values
    data.SharedFunctionalGroupsSequence = one(shared)
    frames = []
    for number in order:
        frame = Dataset()
        frame.PlanePositionSequence = part(ImagePositionPatient=[-10, 20, 1.5 * number])
        if own is not None:
            values = part(RescaleSlope=1, RescaleIntercept=own(number), RescaleType="HU")
            frame.PixelValueTransformationSequence = values
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Items(frames)
    return data


def assert_read(folder: Path) -> None:
    scan = read_volume(folder)
    np.testing.assert_array_equal(array_of(scan), HOUNSFIELD)
    assert scan.GetSpacing() == pytest.approx((0.4, 0.5, 1.5))
    assert scan.GetOrigin() == pytest.approx((-10, 20, 0))
    assert read_grid(folder).size == scan.GetSize()


def refused(folder: Path, name: str = "") -> str:
    """Returns what both readers say behind the name of the file, or of the folder."""
    said = set()
    for read in READERS:
        with pytest.raises(InputError) as error:
            read(folder)
        message = str(error.value)
        assert "\n" not in message
        assert message.startswith(f"{folder / name if name else folder}: ")
        said.add(message.split(": ", 1)[1])
    (sentence,) = said
    return sentence


# Voxels that are not there


@pytest.mark.parametrize("kept", [0, 100, 958])
def test_a_slice_with_fewer_voxels_than_stated_is_refused(tmp_path: Path, kept: int) -> None:
    def short(number: int, data: Dataset) -> None:
        data.PixelData = data.PixelData[: kept if number == 3 else None]

    said = refused(series(tmp_path / "a", short), "3.dcm")
    assert said == f"holds {kept} bytes of voxels, expected 960 (truncated)"


def test_an_image_without_voxels_is_refused(tmp_path: Path) -> None:
    folder = series(tmp_path / "a", lambda k, data: data.pop("PixelData") if k == 4 else None)
    assert refused(folder, "4.dcm").startswith("ends before its voxels")


@pytest.mark.parametrize("kept", [131, 133, 200, 400, 600, 1300])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kept: int) -> None:
    folder = series(tmp_path / "a")
    content = (folder / "4.dcm").read_bytes()
    assert kept < len(content)
    (folder / "4.dcm").write_bytes(content[:kept])
    refused(folder, "4.dcm")


def in_jpeg(data: Dataset, name: str) -> None:
    """Compresses with ITK's writer, since pydicom writes neither JPEG nor JPEG 2000."""
    writer = sitk.ImageFileWriter()
    writer.SetUseCompression(True)
    writer.SetCompressor(name)
    writer.SetFileName("packed.dcm")
    writer.Execute(sitk.GetImageFromArray(data.pixel_array[None]))
    packed = dcmread("packed.dcm")
    data.PixelData = packed.PixelData
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    data.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID


def compressed(data: Dataset, name: str) -> None:
    if name in ("JPEG", "JPEG2000"):
        in_jpeg(data, name)
    else:
        data.compress(getattr(uid, name), generate_instance_uid=False)


SYNTAXES = {
    "RLELossless": "1.2.840.10008.1.2.5",
    "JPEGLSLossless": "1.2.840.10008.1.2.4.80",
    "JPEG": "1.2.840.10008.1.2.4.70",
    "JPEG2000": "1.2.840.10008.1.2.4.90",
}


@pytest.mark.parametrize("name", SYNTAXES)
def test_compressed_slices_are_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = series(tmp_path / "a", lambda _, data: compressed(data, name))
    assert dcmread(folder / "0.dcm").file_meta.TransferSyntaxUID == SYNTAXES[name]
    assert_read(folder)


@pytest.mark.parametrize("name", SYNTAXES)
@pytest.mark.parametrize("kept", [0, 0.5, -5])
def test_a_compressed_slice_that_is_not_whole_is_refused(
    tmp_path: Path, name: str, kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def short(number: int, data: Dataset) -> None:
        compressed(data, name)
        if number == 2:
            stream = next(generate_frames(data.PixelData, number_of_frames=1)).rstrip(b"\0")
            rest = stream[: kept if kept < 0 else int(len(stream) * kept)]
            data.PixelData = encapsulate([rest] if rest else [])

    said = refused(series(tmp_path / "a", short), "2.dcm")
    assert said == "holds 0 whole compressed frames, expected 1 (truncated)"


@pytest.mark.parametrize("name", SYNTAXES)
@pytest.mark.parametrize("lost", [16, 60, 200])
def test_a_part_lost_in_the_middle_of_a_compressed_slice_is_noticed(
    tmp_path: Path,
    name: str,
    lost: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    def short(number: int, data: Dataset) -> None:
        compressed(data, name)
        if number == 2:
            stream = next(generate_frames(data.PixelData, number_of_frames=1)).rstrip(b"\0")
            middle = len(stream) // 2
            data.PixelData = encapsulate([stream[:middle] + stream[middle + lost :]])

    folder = series(tmp_path / "a", short)
    with pytest.raises(InputError) as error:
        read_volume(folder)
    if name == "JPEG":
        assert str(error.value) == (
            f"{folder / '2.dcm'}: holds a compressed frame whose data are not whole, expected a "
            "voxel for each place (a part was lost)"
        )
        assert capfd.readouterr().err == ""


def test_what_else_is_said_on_stderr_is_heard_and_it_is_given_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with heard() as said:
        os.write(2, b"from C\nand more\n")
    os.write(2, b"after\n")
    assert said == ["from C", "and more"]
    assert capfd.readouterr().err == "after\n"


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_other_orders_of_bytes_are_read(tmp_path: Path, syntax: str) -> None:
    little = syntax == uid.ImplicitVRLittleEndian

    def written(number: int, voxels: NDArray[np.uint16]) -> None:
        data = slice_of(number)
        data.file_meta.TransferSyntaxUID = syntax
        data.PixelData = voxels.astype("<u2" if little else ">u2").tobytes()
        data["PixelData"].VR = "OW"
        data = FileDataset("", data, bytes(128), data.file_meta, little, little)
        save(data, tmp_path / f"a/{number}.dcm")

    for number in range(SLICES):
        written(number, stored()[number])
    assert_read(tmp_path / "a")
    written(4, stored()[4].ravel()[1:])
    assert "holds 958 bytes of voxels, expected 960" in refused(tmp_path / "a", "4.dcm")


def test_a_file_without_a_preamble_is_read(tmp_path: Path) -> None:
    folder = series(tmp_path / "a")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    assert_read(folder)


def test_a_deflated_series_is_refused(tmp_path: Path) -> None:
    def deflated(_: int, data: FileDataset) -> None:
        data.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian

    assert "deflated" in refused(series(tmp_path / "a", deflated), "0.dcm")


# What lies beside a series


def others() -> dict[str, FileDataset]:
    """Files that archives and discs put beside slices: none is an image, or none is a scan."""
    found = {
        "DIRFILE": dataset(uid.MediaStorageDirectoryStorage),
        "dose report": dataset(uid.XRayRadiationDoseSRStorage),
        "key objects": dataset(uid.KeyObjectSelectionDocumentStorage),
        "presentation": dataset(uid.GrayscaleSoftcopyPresentationStateStorage),
        "registration": dataset(uid.SpatialRegistrationStorage),
        "raw": dataset("1.3.12.2.1107.5.9.1"),
        "segmentation": image(stored()[0], uid.SegmentationStorage),
        "dose": image(stored()[0], uid.RTDoseStorage),
        "screen": image(stored()[0], uid.SecondaryCaptureImageStorage),
        "one image": slice_of(0),
        "scout": slice_of(0),
        "scout of the series": slice_of(0),
    }
    for number, (name, data) in enumerate(found.items()):
        if name != "scout of the series":
            data.SeriesInstanceUID = f"1.2.9.{number}"
        if name.startswith("scout"):
            data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    return found


@pytest.mark.parametrize("name", others())
def test_what_is_no_slice_is_passed_over_and_named(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = series(tmp_path / "a")
    save(others()[name], folder / name)
    with caplog.at_level(logging.DEBUG, "landmarkflow"):
        assert_read(folder)
    assert f"passed over what is no slice of its series: {name}" in caplog.text


def test_two_scouts_of_a_series_of_their_own_are_passed_over(tmp_path: Path) -> None:
    def scout(number: int, data: Dataset) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        data.SeriesInstanceUID = "1.2.9"

    folder = series(series(tmp_path / "a"), scout, "scout")
    assert_read(folder)


def test_colours_exported_beside_a_series_are_passed_over(tmp_path: Path) -> None:
    def coloured(number: int, data: Dataset) -> None:
        data.SeriesInstanceUID, data.PhotometricInterpretation = "1.2.9", "RGB"

    assert_read(series(series(tmp_path / "a"), coloured, "fused"))


def test_a_copy_of_a_slice_counts_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = series(tmp_path / "a")
    shutil.copy(folder / "2.dcm", folder / "x.dcm")
    with caplog.at_level(logging.DEBUG, "landmarkflow"):
        assert_read(folder)
    assert "series: x.dcm" in caplog.text
    other = dcmread(folder / "2.dcm")
    other.PixelData = stored()[0].tobytes()
    other.save_as(folder / "x.dcm")
    assert "are 0 mm apart" in refused(folder)


def test_hidden_files_and_other_names_do_no_harm(tmp_path: Path) -> None:
    folder = series(tmp_path / "a")
    (folder / "._1.dcm").write_bytes(b"\0\5\x16\7")
    (folder / "notes.txt").write_text("a scan of a Tuesday")
    assert_read(folder)
    (folder / "5.dcm").write_bytes(b"")
    assert refused(folder, "5.dcm") == "is no DICOM file, expected a whole slice"


def test_several_series_are_refused_with_what_they_are(tmp_path: Path) -> None:
    def another(number: int, data: Dataset) -> None:
        data.SeriesInstanceUID, data.SeriesDescription = "1.2.9", "Bone 0.5"

    folder = series(series(tmp_path / "a"), another, "bone")
    (folder / "bone0.dcm").unlink()
    assert refused(folder) == (
        "holds 2 series that may be the scan, expected one, chosen by `series`, a number or UID, "
        "in the sheet or beside the template: series without a number (CT, 5 images of 24 x 20, "
        'UID 1.2.3.4), series without a number "Bone 0.5" (CT, 4 images of 24 x 20, UID 1.2.9)'
    )


# What instances state


def test_instances_may_be_numbered_and_dated_in_any_way(tmp_path: Path) -> None:
    def oddly(number: int, data: Dataset) -> None:
        data.InstanceNumber = (7, 7, -1, 0, None)[number]
        data.SeriesNumber, data.ContentDate = number, ("18000101", "20991231")[number % 2]
        data.AcquisitionNumber, data.StudyDate = 9 - number, ""

    assert_read(series(tmp_path / "a", oddly))


def test_bits_beyond_those_stored_do_not_count(tmp_path: Path) -> None:
    def with_overlay(number: int, data: Dataset) -> None:
        data.PixelData = (stored()[number] | 0xF000).tobytes()

    assert_read(series(tmp_path / "a", with_overlay))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "RGB", "PALETTE COLOR", "YBR_FULL"])
def test_values_that_mean_something_else_are_refused(tmp_path: Path, photometric: str) -> None:
    def stated(_: int, data: Dataset) -> None:
        data.PhotometricInterpretation = photometric

    said = refused(series(tmp_path / "a", stated), "0.dcm")
    assert said == f'has the PhotometricInterpretation "{photometric}", expected MONOCHROME2'


def test_a_table_of_intensities_is_refused(tmp_path: Path) -> None:
    def with_table(_: int, data: Dataset) -> None:
        data.ModalityLUTSequence = part(LUTExplanation="density")

    assert "has a ModalityLUTSequence" in refused(series(tmp_path / "a", with_table), "0.dcm")


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    def steeper(number: int, data: Dataset) -> None:
        data.RescaleSlope = number + 1.5

    scan = array_of(read_volume(series(tmp_path / "a", steeper)))
    slopes = np.arange(SLICES)[:, None, None] + 1.5
    np.testing.assert_allclose(scan, stored() * slopes - 1024)


# Several frames in a file


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
@pytest.mark.parametrize("syntax", ["", "RLELossless", "JPEGLSLossless"])
def test_frames_of_an_enhanced_file_lie_where_they_say(
    tmp_path: Path, order: Sequence[int], syntax: str
) -> None:
    data = enhanced(order)
    if syntax:
        compressed(data, syntax)
    save(data, tmp_path / "a/all.dcm")
    assert_read(tmp_path / "a")


@pytest.mark.parametrize(
    "sop_class", [uid.EnhancedMRImageStorage, uid.LegacyConvertedEnhancedCTImageStorage]
)
def test_other_enhanced_files_are_read(tmp_path: Path, sop_class: str) -> None:
    save(enhanced(range(SLICES), lambda _: -1024, sop_class), tmp_path / "a/all.dcm")
    assert_read(tmp_path / "a")


def test_frames_that_are_rescaled_differently_are_refused(tmp_path: Path) -> None:
    save(enhanced(range(SLICES), lambda number: -1024 + number), tmp_path / "a/all.dcm")
    assert refused(tmp_path / "a", "all.dcm").startswith("rescales its frames differently")


def test_a_gap_between_frames_is_refused(tmp_path: Path) -> None:
    data = enhanced(range(SLICES))
    frame = data.PerFrameFunctionalGroupsSequence[4]
    frame.PlanePositionSequence[0].ImagePositionPatient = [-10, 20, 7.5]
    save(data, tmp_path / "a/all.dcm")
    assert "all.dcm (frame 4) and all.dcm (frame 5) are 3 mm apart" in refused(tmp_path / "a")


def test_frames_without_places_are_refused(tmp_path: Path) -> None:
    data = enhanced(range(SLICES))
    del data.PerFrameFunctionalGroupsSequence
    save(data, tmp_path / "a/all.dcm")
    said = refused(tmp_path / "a", "all.dcm")
    assert said.startswith("holds 5 frames and states the places of 0")


@pytest.mark.parametrize(
    ("syntax", "found"),
    [("", "960 bytes of voxels, expected 4800"), ("RLELossless", "4 whole compressed frames")],
)
def test_frames_that_are_not_there_are_refused(tmp_path: Path, syntax: str, found: str) -> None:
    data = enhanced(range(SLICES))
    data.PixelData = data.PixelData[:960] if not syntax else data.PixelData
    if syntax:
        compressed(data, syntax)
        frames = list(generate_frames(data.PixelData, number_of_frames=SLICES))
        data.PixelData = encapsulate(frames[:-1])
    save(data, tmp_path / "a/all.dcm")
    assert f"holds {found}" in refused(tmp_path / "a", "all.dcm")


def test_several_files_of_frames_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        save(enhanced(range(SLICES)), tmp_path / f"a/{name}.dcm")
    assert "has 2 files of 10 frames" in refused(tmp_path / "a")
