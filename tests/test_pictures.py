"""Pictures as volumes of one slice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.formats.pictures import read_picture
from landmarkflow.formats.volumes import read_grid, read_labels, read_segmentation, read_volume
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.operations import array_of, grid_of

ROWS, COLUMNS = 20, 30
RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (ROWS, COLUMNS)).astype(np.uint8)
DEEP = RANDOM.integers(0, 65536, (ROWS, COLUMNS)).astype(np.uint16)
COLOURS = RANDOM.integers(0, 256, (ROWS, COLUMNS, 3)).astype(np.uint8)
GRID = Grid((COLUMNS, ROWS, 1), np.ones(3), np.zeros(3), np.eye(3))


def save(path: Path, values: NDArray[Any], mode: str | None = None, **options: Any) -> Path:
    picture = Image.fromarray(values)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def refused(path: Path, read: Callable[[Path], object] = read_volume) -> str:
    with pytest.raises(InputError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.TIFF"])
@pytest.mark.parametrize("values", [GREY, DEEP], ids=["8 bits", "16 bits"])
def test_grey_is_a_volume_of_one_slice(tmp_path: Path, name: str, values: NDArray[Any]) -> None:
    path = save(tmp_path / name, values)
    image = read_volume(path)
    assert array_of(image).dtype == values.dtype
    np.testing.assert_array_equal(array_of(image), values[None])
    assert grid_of(image).as_lists() == read_grid(path).as_lists() == GRID.as_lists()
    # Column 7 of row 4 is the pixel whose centre lies at (7, 4).
    assert image.GetPixel((7, 4, 0)) == values[4, 7]
    np.testing.assert_array_equal(read_picture(path), values[..., None])


def test_tiff_of_fractions_and_of_bytes_in_the_other_order(tmp_path: Path) -> None:
    fractions = (GREY / 7).astype(np.float32)
    found = array_of(read_volume(save(tmp_path / "a.tif", fractions)))
    np.testing.assert_array_equal(found, fractions[None])
    Image.frombytes("I;16B", (COLUMNS, ROWS), DEEP.astype(">u2").tobytes()).save(tmp_path / "b.tif")
    found = array_of(read_volume(tmp_path / "b.tif"))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, DEEP[None])


def test_jpeg_is_read(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(ROWS) * 5, np.arange(COLUMNS) * 3).astype(np.uint8)
    for name in ("a.jpg", "a.jpeg", "a.JPG"):
        found = array_of(read_volume(save(tmp_path / name, smooth, quality=98)))
        np.testing.assert_allclose(found[0].astype(int), smooth, atol=3)


def test_colours_are_channels_and_their_luminance_a_volume(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", COLOURS)
    np.testing.assert_array_equal(read_picture(path), COLOURS)
    found = array_of(read_volume(path))
    assert found.dtype == np.uint8
    expected = COLOURS @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(found[0], expected, atol=1)
    assert read_grid(path).as_lists() == GRID.as_lists()


@pytest.mark.parametrize(
    ("mode", "channels"), [("RGBA", 3), ("LA", 1), ("P", 3), ("CMYK", 3), ("1", 1)]
)
def test_other_kinds_of_colour_become_grey_or_red_green_and_blue(
    tmp_path: Path, mode: str, channels: int
) -> None:
    path = save(tmp_path / "a.tif", COLOURS, mode)
    assert read_picture(path).shape == (ROWS, COLUMNS, channels)
    assert read_volume(path).GetPixelID() == sitk.sitkUInt8


def test_a_segmentation_of_a_picture_is_a_picture(tmp_path: Path) -> None:
    labels = (GREY // 100).astype(np.uint8)
    path = save(tmp_path / "labels.png", labels)
    np.testing.assert_array_equal(array_of(read_labels(path, GRID)), labels[None])
    np.testing.assert_array_equal(array_of(read_segmentation(path, GRID, [2]))[0], labels == 2)
    said = refused(save(tmp_path / "colours.png", COLOURS), lambda path: read_labels(path, GRID))
    assert said == "holds colours, expected a segmentation of grey labels"
    wide = Grid((COLUMNS + 1, ROWS, 1), np.ones(3), np.zeros(3), np.eye(3))
    assert "expected the (31, 20, 1) of its scan" in refused(path, lambda p: read_labels(p, wide))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_one_slice_is_read_as_a_result_but_not_as_a_scan(tmp_path: Path, name: str) -> None:
    image = read_volume(save(tmp_path / "a.png", GREY))
    write_volume(image, tmp_path / name)
    found = read_written(tmp_path / name)
    np.testing.assert_array_equal(array_of(found), GREY[None])
    assert grid_of(found).as_lists() == GRID.as_lists()
    for read in (read_volume, read_grid):
        assert "at least two along each axis" in refused(tmp_path / name, read)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.png"])
@pytest.mark.parametrize("orientation", [2, 6, 8])
def test_a_picture_that_is_shown_turned_is_refused(
    tmp_path: Path, name: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = save(tmp_path / name, GREY, exif=exif)
    for read in (read_volume, read_grid, read_picture):
        assert refused(path, read) == (
            f"states the EXIF orientation {orientation}, by which it is shown turned or mirrored; "
            "expected 1, pixels stored as they are shown"
        )
    exif[274] = 1
    assert read_grid(save(path, GREY, exif=exif)).size == GRID.size


def test_a_file_of_several_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pages = [Image.fromarray(GREY), Image.fromarray(GREY)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert refused(path) == "holds 2 pictures, expected one"


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.tif", "TIFF")])
def test_a_wrong_suffix_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    save(tmp_path / "a.bmp", GREY)
    (tmp_path / "a.bmp").rename(tmp_path / name)
    for read in (read_volume, read_grid, read_picture):
        said = refused(tmp_path / name, read)
        assert said.startswith("cannot be read")
        assert said.endswith(f"expected a whole {kind} file")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_truncated_pictures_are_refused(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, np.tile(GREY, (10, 10)))
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) * 9 // 10):
        path.write_bytes(content[:length])
        assert "cannot be read" in refused(path)


def test_a_corrupt_png_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", GREY)
    content = path.read_bytes()
    for place in range(16, len(content) - 12, 37):
        broken = bytearray(content)
        broken[place] ^= 0x10
        path.write_bytes(broken)
        assert "cannot be read" in refused(path)


def test_a_constant_picture_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.full((ROWS, COLUMNS), 7, np.uint8))
    assert refused(path) == "every voxel holds 7, expected a scan with contrast"


def test_a_picture_of_more_pixels_than_pillow_opens_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.zeros((14_000, 14_000), bool))
    assert "cannot be read (Image size (196000000 pixels) exceeds limit" in refused(path, read_grid)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@given(
    damage=st.lists(
        st.tuples(st.integers(0, 2000), st.integers(0, 2), st.binary(max_size=6)),
        min_size=1,
        max_size=4,
    )
)
def test_a_damaged_picture_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, damage: list[tuple[int, int, bytes]]
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    content = bytearray(save(path, GREY[:12, :12]).read_bytes())
    for place, removed, put in damage:
        start = place % len(content)
        content[start : start + removed] = put
    path.write_bytes(content)
    try:
        read_volume(path)
    except InputError as error:
        assert str(path) in str(error)
        assert len(str(error).splitlines()) == 1
