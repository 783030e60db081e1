"""Crops of pictures: a place goes through every frame and comes back, below the pixel."""

import math

import numpy as np
import pytest
import torch

from landmarkflow.learning.crops import Frame, Pyramid, regridded
from landmarkflow.learning.heatmaps import decode, gaussian_targets

PLACE = np.array([101.37, 72.81])
SIGMA = 6.0


def drawn(sigma: float = SIGMA, size: tuple[int, int] = (180, 240)) -> torch.Tensor:
    """A picture (1, rows, columns) of a Gaussian of maximum 1 at PLACE."""
    heat = gaussian_targets(torch.from_numpy(PLACE)[None], size, sigma)
    return heat / heat.max()


def found(heat: torch.Tensor, sigma: float) -> np.ndarray:
    return decode(heat[0].numpy(), "mean", sigma)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7, 2.0, 3.3])
@pytest.mark.parametrize("size", [(64, 64), (65, 64), (48, 81)])
def test_a_gaussian_is_found_in_every_crop_flip_and_turn(
    scale: float, size: tuple[int, int]
) -> None:
    sigma = 2 * scale
    pyramid = Pyramid.of(drawn(sigma))
    random = np.random.default_rng([size[0], int(10 * scale)])
    for angle in (0.0, 0.4, -2.0):
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        centre = PLACE + random.uniform(-8, 8, 2) * scale
        frame = Frame(centre, scale * turn, size)
        for one in (frame, frame.mirrored()):
            place = one.to_picture(found(pyramid.crop(one), 2.0))
            assert np.abs(place - PLACE).max() / scale < 0.05


def test_letterbox_and_stem_keep_a_place() -> None:
    picture = drawn()
    # The longer side fills a square of another size; then a map of half and a quarter of its size.
    for side in (96, 128, 200):
        frame = Frame.upright((119.5, 89.5), 240 / side, (side, side))
        shown = Pyramid.of(picture).crop(frame)
        for factor in (1, 2, 4):
            maps = frame.coarser(factor)
            heat = torch.nn.functional.avg_pool2d(shown[None], factor)[0]
            sigma = SIGMA / maps.scale
            if sigma < 0.7:
                continue
            place = maps.to_picture(found(heat, sigma))
            assert np.abs(place - PLACE).max() / maps.scale < 0.05


def test_a_mirrored_crop_is_the_crop_mirrored() -> None:
    picture = torch.rand((2, 50, 70), generator=torch.Generator().manual_seed(1))
    frame = Frame.upright((31.3, 20.2), 0.9, (24, 17))
    pyramid = Pyramid.of(picture)
    assert torch.allclose(pyramid.crop(frame.mirrored()), pyramid.crop(frame).flip(-1), atol=1e-5)
    place = np.array([3.0, 5.0])
    other = np.array([24 - 1 - 3.0, 5.0])
    assert np.allclose(frame.to_picture(place), frame.mirrored().to_picture(other))


def test_a_crop_of_whole_pixels_is_the_picture() -> None:
    picture = torch.arange(12 * 10).reshape(1, 12, 10).to(torch.uint8)
    pyramid = Pyramid.of(picture)

    def crop(x: float, y: float, size: tuple[int, int]) -> torch.Tensor:
        return pyramid.crop(Frame.upright((x, y), 1.0, size))

    assert torch.allclose(crop(4.5, 5.5, (10, 12)), picture.float(), atol=1e-4)
    assert torch.allclose(crop(4.0, 5.0, (3, 3)), picture[:, 4:7, 3:6].float(), atol=1e-4)
    # Beyond the picture there is nothing, far away as well.
    assert crop(400.0, 5.0, (3, 3)).abs().sum() == 0
    assert crop(-1.5, 5.0, (2, 3)).abs().sum() == 0
    # Half a pixel to the right is the mean of two.
    half = crop(4.5, 5.0, (3, 1))
    assert torch.allclose(half[0, 0], torch.tensor([53.5, 54.5, 55.5]))


def test_maps_go_from_one_grid_to_another() -> None:
    wide = Frame.upright((100.0, 75.0), 2.0, (64, 64))
    narrow = Frame.upright((104.0, 70.0), 1.0, (48, 48))
    heat = Pyramid.of(drawn()).crop(wide)
    for source, maps in ((wide, heat), (wide.mirrored(), heat.flip(-1))):
        for target in (narrow, narrow.mirrored()):
            moved = regridded(maps[None], [source], [target])[0]
            place = target.to_picture(found(moved, SIGMA))
            assert np.abs(place - PLACE).max() < 0.05
