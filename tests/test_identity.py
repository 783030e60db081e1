"""One image, whatever the file that it is saved in."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from image_files import DIRECTIONS, ORIENTATIONS, reoriented, scan, write_dicom

from landmarkflow.core.errors import InputError
from landmarkflow.formats.volumes import read_volume
from landmarkflow.images.identity import Identity
from landmarkflow.images.operations import array_of, grid_of, image_on


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd"])
def test_an_image_is_known_in_every_format(tmp_path: Path, name: str, direction: str) -> None:
    image = scan(DIRECTIONS[direction])
    sitk.WriteImage(image, str(tmp_path / name), useCompression=name.endswith("mha"))
    assert Identity.of(read_volume(tmp_path / name)).is_same(Identity.of(image))


@pytest.mark.parametrize("kind", [sitk.sitkInt32, sitk.sitkFloat32, sitk.sitkFloat64])
def test_the_type_of_its_voxels_does_not_count(kind: int) -> None:
    assert Identity.of(sitk.Cast(scan(), kind)).is_same(Identity.of(scan()))


@pytest.mark.parametrize("direction", ["along", "oblique"])
@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_the_order_of_its_voxels_does_not_count(
    axes: tuple[int, ...], flips: tuple[bool, ...], direction: str
) -> None:
    image = scan(DIRECTIONS[direction])
    assert Identity.of(reoriented(image, axes, flips)).is_same(Identity.of(image))


def test_a_dicom_series_is_its_nifti_as_converters_turn_it(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a")
    image = read_volume(tmp_path / "a")
    # They write rows from below, and place voxels in float32.
    turned = sitk.DICOMOrient(image, "LAS")
    sitk.WriteImage(turned, str(tmp_path / "a.nii.gz"))
    assert np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj).shape == image.GetSize()
    assert Identity.of(read_volume(tmp_path / "a.nii.gz")).is_same(Identity.of(image))


def test_a_negative_zero_is_a_zero() -> None:
    values = array_of(scan()).astype(np.float32)
    values[0, 0, :2] = 0.0
    other = values.copy()
    other[0, 0, 0] = -0.0
    one, same = (Identity.of(image_on(grid_of(scan()), each)) for each in (values, other))
    assert one.is_same(same)


def test_other_voxels_and_other_places_are_other_images() -> None:
    image = scan()
    values = array_of(image)
    values[3, 4, 5] += 1
    assert not Identity.of(image_on(grid_of(image), values)).is_same(Identity.of(image))
    for change in (
        lambda one: one.SetOrigin((-37.4, 12.25, 80.0)),
        lambda one: one.SetSpacing((0.4, 0.5, 1.6)),
        lambda one: one.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    ):
        other = sitk.Image(image)
        change(other)
        assert not Identity.of(other).is_same(Identity.of(image))
    rounded = sitk.Image(image)
    rounded.SetOrigin((-37.501, 12.251, 80.0))
    assert Identity.of(rounded).is_same(Identity.of(image))


def test_it_comes_back_from_a_record() -> None:
    one = Identity.of(scan(DIRECTIONS["oblique"]))
    assert Identity.of_record(one.as_record()).is_same(one)
    for stated in ({}, {"voxels": "0"}, {"voxels": "0", "grid": {}}):
        with pytest.raises(InputError, match="states no image"):
            Identity.of_record(stated)
