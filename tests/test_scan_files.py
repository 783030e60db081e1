import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from image_files import meta_image_bytes, nifti_bytes, nrrd_bytes, scan, scan_array, write_dicom
from PIL import Image

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.formats.scan_files import digest_of, files_of
from landmarkflow.formats.volumes import read_grid, read_volume
from landmarkflow.formats.written import write_volume

AXES = "1 0 0 0 1 0 0 0 1"
READERS = [read_volume, read_grid]


def refused(path: Path, read: Callable[[Path], object]) -> str:
    with pytest.raises(InputError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_a_scan_in_one_file_is_that_file(tmp_path: Path, name: str) -> None:
    write_volume(scan(), tmp_path / name)
    assert files_of(tmp_path / name) == [tmp_path / name]
    content = (tmp_path / name).read_bytes()
    assert digest_of(files_of(tmp_path / name)) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_the_voxels_beside_a_header_count(tmp_path: Path, suffix: str, compressed: bool) -> None:
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(scan(), str(path), compressed)
    (voxels,) = (file for file in tmp_path.iterdir() if file != path)
    (tmp_path / "another.txt").write_text("no part of the scan")
    assert files_of(path) == [path, voxels]
    before = digest_of(files_of(path))
    content = bytearray(voxels.read_bytes())
    content[-1] ^= 0xFF
    voxels.write_bytes(content)
    assert digest_of(files_of(path)) != before


def test_all_files_of_a_folder_may_be_of_a_scan_and_their_order_counts(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    write_dicom(folder / "more")
    (folder / "notes.txt").write_text("first")
    files = [*(folder / f"more/{number}.dcm" for number in range(8)), folder / "notes.txt"]
    assert files_of(folder) == files
    before = digest_of(files)
    (folder / "notes.txt").write_text("second")
    assert len({before, digest_of(files), digest_of(files[::-1])}) == 3


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    assert "no such file or folder" in refused(tmp_path / "a.mhd", files_of)
    (tmp_path / "a.mhd").write_bytes(meta_image_bytes(AXES, "a.raw"))
    assert "does not exist beside it" in refused(tmp_path / "a.mhd", files_of)


@pytest.mark.parametrize(
    "name",
    ["../voxels.raw", "{}/voxels.raw", "beside/voxels.raw", "./voxels.raw", "..\\voxels.raw"],
)
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_voxels_in_another_place_are_refused(tmp_path: Path, suffix: str, name: str) -> None:
    folder = tmp_path / "scans"
    (folder / "beside").mkdir(parents=True)
    for place in (tmp_path, folder, folder / "beside"):
        (place / "voxels.raw").write_bytes(scan_array().astype("<i2").tobytes())
    name = name.format(tmp_path)
    header = nrrd_bytes("space: LPS").partition(b"\n\n")[0] + f"\ndata file: {name}\n".encode()
    if suffix == ".mhd":
        header = meta_image_bytes(AXES, name).partition(b"raw\n")[0] + b"raw\n"
    path = folder / f"scan{suffix}"
    path.write_bytes(header)
    said = f'names the data file "{name}", expected the bare name of a file beside it'
    for read in (*READERS, files_of):
        assert refused(path, read) == said
    path.write_bytes(header.replace(name.encode(), b"voxels.raw"))
    assert files_of(path) == [path, folder / "voxels.raw"]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_volume(path)), scan_array())


# More voxels than a machine holds


@pytest.mark.parametrize("read", READERS)
def test_a_file_that_unpacks_to_far_more_than_it_holds_is_refused(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    content = bytearray(nifti_bytes(dimensions=(3, 2000, 2000, 1000, 1, 1, 1, 1)))
    struct.pack_into("<2h", content, 70, 64, 64)
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(content))
    # As large as a file of 32 GB of zeros would be.
    os.truncate(path, 33 << 20)
    assert refused(path, read) == (
        "states 2000 x 2000 x 1000 voxels of 32000000000 bytes in all, expected at most "
        "8589934592 bytes"
    )


def test_voxels_far_behind_the_header_are_refused(tmp_path: Path) -> None:
    content = bytearray(nifti_bytes())
    struct.pack_into("<f", content, 108, 1e10)
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(content))
    os.truncate(path, 33 << 20)
    assert refused(path, read_grid).startswith("has the vox_offset 1e+10, datatype 4 and bitpix 16")


def write_picture(path: Path) -> None:
    Image.fromarray(np.arange(1920, dtype=np.uint8).reshape(40, 48)).save(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "a", "a.png"])
def test_the_caller_says_how_many_bytes_voxels_may_take(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a":
        write_dicom(path)
    elif name == "a.png":
        write_picture(path)
    else:
        sitk.WriteImage(scan(), str(path))
    grid: Grid = read_grid(path)
    count = int(np.prod(grid.size)) * (1 if name == "a.png" else 2)
    # DICOM may be rescaled to a type of more bytes.
    count = count if name != "a" else read_volume(path).GetSizeOfPixelComponent() * 960
    assert read_volume(path, largest_bytes=count).GetSize() == grid.size
    for read in READERS:
        said = refused(path, lambda path, read=read: read(path, largest_bytes=count - 1))
        assert said.endswith(f"of {count} bytes in all, expected at most {count - 1} bytes")
