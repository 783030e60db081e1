import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.images.sampling import map_points

Points = NDArray[np.float64]

POINTS = np.random.default_rng(0).uniform(-14.0, 14.0, (300, 3))


def spline(order: int = 3, *, turned: bool = True) -> sitk.BSplineTransform:
    """Control points 3 mm apart on an oblique lattice that ends amid the points."""
    transform = sitk.BSplineTransform(3, order)
    turn = sitk.Euler3DTransform(
        (0.0, 0.0, 0.0), *((0.4, -0.2, 0.3) if turned else (0.0, 0.0, 0.0))
    )
    transform.SetTransformDomainOrigin((-9.0, -8.0, -7.0))
    transform.SetTransformDomainPhysicalDimensions((15.0, 18.0, 12.0))
    transform.SetTransformDomainMeshSize((5, 6, 4))
    transform.SetTransformDomainDirection(turn.GetMatrix())
    count = transform.GetNumberOfParameters()
    transform.SetParameters(np.random.default_rng(1).normal(size=count).tolist())
    return transform


def composite(*parts: sitk.Transform) -> sitk.CompositeTransform:
    return sitk.CompositeTransform(list(parts))


def field() -> sitk.DisplacementFieldTransform:
    grid = sitk.Image(20, 20, 20, sitk.sitkVectorFloat64)
    grid.SetOrigin((-14.0, -14.0, -14.0))
    values = np.random.default_rng(2).normal(size=(20, 20, 20, 3))
    image = sitk.GetImageFromArray(values, isVector=True)
    image.CopyInformation(grid)
    return sitk.DisplacementFieldTransform(image)


EULER = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.3, -0.5, 1.2, (4.0, 0.5, -2.0))
MIRROR = sitk.AffineTransform(np.diag([-1.0, 1.0, 1.0]).ravel().tolist(), (3.0, 0.0, 0.0))

TRANSFORMS = {
    "identity": sitk.Transform(3, sitk.sitkIdentity),
    "rigid": EULER,
    "mirrored": MIRROR,
    "spline": spline(),
    "upright spline": spline(turned=False),
    "linear spline": spline(order=1),
    "all together": composite(MIRROR, EULER, spline()),
    "two splines": composite(spline(), EULER, spline()),
    "nested": composite(EULER, composite(spline(), MIRROR)),
    "field": field(),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_many_points_go_where_each_goes(name: str) -> None:
    transform = TRANSFORMS[name]
    before = POINTS.copy()
    expected = [transform.TransformPoint(point) for point in POINTS.tolist()]
    np.testing.assert_allclose(map_points(transform, POINTS), expected, atol=1e-10)
    np.testing.assert_array_equal(before, POINTS)


def test_where_control_points_lack_a_spline_displaces_nothing() -> None:
    moved = np.linalg.norm(map_points(spline(), POINTS) - POINTS, axis=1) > 0
    assert 0.1 < moved.mean() < 0.5


def test_the_very_ends_of_a_lattice_belong_to_it() -> None:
    upright = spline(turned=False)
    corners = np.array([[-9.0, -8.0, -7.0], [6.0, 10.0, 5.0], [6.0, -8.0, 5.0]])
    expected = [upright.TransformPoint(corner) for corner in corners.tolist()]
    assert (np.linalg.norm(np.array(expected) - corners, axis=1) > 1e-6).all()
    np.testing.assert_allclose(map_points(upright, corners), expected, atol=1e-10)


def test_a_transform_that_was_read_is_mapped_as_what_it_is(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = str(tmp_path_factory.mktemp("transforms") / "a.tfm")
    whole = composite(MIRROR, spline())
    sitk.WriteTransform(whole, path)
    expected = [whole.TransformPoint(point) for point in POINTS.tolist()]
    np.testing.assert_allclose(map_points(sitk.ReadTransform(path), POINTS), expected, atol=1e-9)


def test_no_points_are_no_points() -> None:
    for transform in (EULER, spline(), field()):
        assert map_points(transform, np.empty((0, 3))).shape == (0, 3)
