"""Pictures changed at random: where they lie in a frame, and how they look.

One change holds for all crops of a picture in a batch: what is bright in the coarse crop is bright
in its regions of interest.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landmarkflow.learning.crops import Frame, Pyramid
from landmarkflow.methods.zoomin.prepare import CONTRASTS
from landmarkflow.methods.zoomin.settings import AugmentSettings

Array = NDArray[np.float64]

# Radii of spots, shares of the field.
SMALLEST_SPOT, LARGEST_SPOT = 0.008, 0.06
# The narrowest field that is cut out, of the whole.
NARROWEST = 0.8
# Spots: x, y, radius (pixels of the picture) and the change at its middle.
Spot = tuple[float, float, float, float]


@dataclass(frozen=True)
class Opening:
    """The part of a picture that is shown: a circle, cut off above and below.

    Attributes:
        x, y: its middle, pixels of the picture.
        radius: pixels.
        tall: largest distance above and below that is shown, pixels.
    """

    x: float
    y: float
    radius: float
    tall: float

    def holds(self, places: NDArray[np.floating]) -> NDArray[np.bool_]:
        """(...) whether places (..., 2) are shown; no unknown one (NaN) is."""
        away = np.hypot(places[..., 0] - self.x, places[..., 1] - self.y)
        return np.asarray((away < self.radius) & (np.abs(places[..., 1] - self.y) < self.tall))


@dataclass(frozen=True, eq=False)
class Appearance:
    """How a picture is shown.

    Attributes:
        gain: (channels,) factor of each channel about its middle; 0 leaves it out.
        shift: (channels,) added to each.
        gamma: exponent.
        slope: (2,) change of brightness from the field's middle to its border along x and y.
        grey: whether colours become their mean.
        blur: deviation, pixels of the picture.
        noise: deviation.
        spots: see `Spot`.
        opening: beyond which nothing is shown.
        colours: how many channels are colours; the others are local contrast.
    """

    gain: Array
    shift: Array
    gamma: float
    slope: Array
    grey: bool
    blur: float
    noise: float
    spots: tuple[Spot, ...]
    opening: Opening | None
    colours: int

    def shown(self, pyramid: Pyramid, frame: Frame, noise_seed: int) -> Tensor:
        """(channels, height, width), about 0 to 1, of a picture of 0 to 255 in a frame.

        What a change makes darker than 0 or brighter than 1 stays so, for clipped it would be flat.

        Args:
            pyramid: the picture.
            frame: what of it is shown.
            noise_seed: of this crop's noise.
        """
        seen = pyramid.crop(frame) / 255
        inside = (seen[self.colours :].amax(dim=0) > 0.02).float()
        places = frame.places.float()
        colour, contrast = seen[: self.colours], seen[self.colours :]
        if self.grey:
            colour = colour.mean(dim=0, keepdim=True).expand_as(colour)
        colour = colour.clamp(min=0) ** self.gamma
        middle = (pyramid.width - 1) / 2
        slope = ((places - middle) / middle) @ torch.from_numpy(self.slope).float()
        colour = colour + slope
        change = torch.zeros_like(inside)
        for x, y, radius, depth in self.spots:
            square = (places[..., 0] - x) ** 2 + (places[..., 1] - y) ** 2
            change = change + depth * torch.exp(-((square / radius**2) ** 2))
        changed = torch.cat([colour, contrast]) + change
        if (width := self.blur / frame.scale) > 0.3:
            changed = _blurred(changed, width)
        gain, shift = (torch.from_numpy(v).float()[:, None, None] for v in (self.gain, self.shift))
        changed = (changed - 0.5) * gain + 0.5 + shift
        generator = torch.Generator().manual_seed(noise_seed)
        changed += self.noise * torch.randn(changed.shape, generator=generator)
        if self.opening is not None:
            inside = inside * torch.from_numpy(self.opening.holds(places.numpy()))
        return changed * inside * torch.from_numpy(self.gain != 0)[:, None, None]


def plain(pyramid: Pyramid, frame: Frame) -> Tensor:
    """(channels, height, width), 0 to 1, of a picture of 0 to 255 as it is."""
    return pyramid.crop(frame) / 255


def _blurred(values: Tensor, width: float) -> Tensor:
    reach = math.ceil(2.5 * width)
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / width) ** 2)
    kernel = (kernel / kernel.sum()).expand(len(values), 1, 1, -1)
    padded = nn.functional.pad(values[None], (reach,) * 4, mode="replicate")
    along = nn.functional.conv2d(padded, kernel, groups=len(values))
    return nn.functional.conv2d(along, kernel.transpose(2, 3), groups=len(values))[0]


def draw_appearance(
    random: np.random.Generator,
    settings: AugmentSettings,
    *,
    channels: int,
    size: int,
    near: Array,
    opening: Opening | None = None,
) -> Appearance:
    """An appearance drawn at random.

    Args:
        random: stream.
        settings: how strong changes are.
        channels: of the picture, the last of which are local contrasts.
        size: width of the picture, pixels.
        near: (n, 2) places, pixels, near which a part of the spots lies; NaN rows do not count.
        opening: what is shown; without it all, or by chance a part.
    """
    colours = channels - CONTRASTS
    gain = 1 + random.uniform(-1, 1, channels) * settings.contrast
    # What all channels share is most of it.
    shift = settings.brightness * (random.uniform(-1, 1) + 0.5 * random.uniform(-1, 1, channels))
    shift[colours:] = 0
    dropped = random.random(channels) < settings.dropped
    if not dropped.all():
        gain[dropped] = 0
    spots = []
    known = near[~np.isnan(near).any(axis=1)]
    for _ in range(int(random.poisson(settings.spots))):
        place = random.uniform(0, size, 2)
        if len(known) and random.random() < 0.4:
            place = known[random.integers(len(known))] + random.normal(0, 0.04 * size, 2)
        radius = size * math.exp(random.uniform(math.log(SMALLEST_SPOT), math.log(LARGEST_SPOT)))
        depth = random.choice([-1, 1]) * random.uniform(0.1, 0.6)
        spots.append((float(place[0]), float(place[1]), radius, float(depth)))
    if random.random() < settings.cut and opening is None:
        opening = _draw_opening(random, size, NARROWEST)
    return Appearance(
        gain=gain,
        shift=shift,
        gamma=math.exp(random.uniform(-1, 1) * settings.gamma),
        slope=random.uniform(-1, 1, 2) * settings.gradient / 2,
        grey=bool(random.random() < settings.grey),
        blur=random.uniform(0, 1) * settings.blur * size / 1000,
        noise=random.uniform(0, 1) * settings.noise,
        spots=tuple(spots),
        opening=opening,
        colours=colours,
    )


def draw_other_field(
    random: np.random.Generator, settings: AugmentSettings, *, size: int, points: Array
) -> Opening | None:
    """The field of another camera within that of a picture; None for the picture's own.

    Args:
        random: stream.
        settings: how often, and how narrow it may be.
        size: width of the picture, pixels.
        points: (k, 2) landmarks, pixels, of which the field shows one at least.
    """
    if not settings.fields or random.random() >= settings.fields:
        return None
    opening = _draw_opening(random, size, settings.narrowest)
    return opening if opening.holds(points).any() else None


def _draw_opening(random: np.random.Generator, size: int, narrowest: float) -> Opening:
    """A circle that lies within the one in a square picture, and is that wide at least."""
    radius = size / 2 * random.uniform(narrowest, 1)
    middle = random.uniform(-1, 1, 2) * (size / 2 - radius) + (size - 1) / 2
    tall = radius * random.uniform(0.75, 1.1)
    return Opening(float(middle[0]), float(middle[1]), radius, tall)


def draw_frame(
    random: np.random.Generator,
    settings: AugmentSettings,
    *,
    picture: int,
    size: int,
    opening: Opening | None = None,
) -> Frame:
    """A frame of so many pixels over all that is shown, turned, stretched and shifted.

    Args:
        random: stream.
        settings: how strong changes are.
        picture: width of the picture, which is a square, pixels.
        size: of the frame.
        opening: what is shown of the picture; None for all.
    """
    wide = picture if opening is None else 2 * opening.radius
    middle = np.full(2, (picture - 1) / 2)
    if opening is not None:
        middle = np.array([opening.x, opening.y])
    angle = math.radians(settings.rotation_degrees) * random.standard_normal()
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    spread = math.log1p(settings.scale), math.log1p(settings.stretch)
    zoom = np.exp(random.uniform(-1, 1) * spread[0] + random.uniform(-1, 1, 2) * spread[1])
    axes = turn @ np.diag(zoom) * (wide / size)
    if settings.flip and random.random() < 0.5:
        axes = axes * np.array([-1.0, 1.0])
    centre = middle + random.uniform(-1, 1, 2) * settings.shift * wide
    return Frame(centre, axes, (size, size))
