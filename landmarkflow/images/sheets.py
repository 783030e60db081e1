"""A dark picture made of slices, with points, circles, lines and words on it."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from landmarkflow.core.files import replacing
from landmarkflow.images.views import Frame

# Marks are drawn so many times as large and then reduced, which smooths their edges.
FINER = 2
GROUND, INK, SOFT = (21, 25, 29), (228, 232, 235), (163, 173, 181)
SHADOW = (0, 0, 0, 170)
LETTER_PIXELS = 15
# Of WebP, 0 to 100: below, noise turns into blocks; above, files grow and show no more.
QUALITY = 62
# Of WebP, 0 to 6: how long it looks for fewer bytes. 4 takes twice as long for 5 % fewer.
METHOD = 2

Colour = tuple[int, int, int]


class Sheet:
    """A picture of some size, in pixels, on which things are put one after the other."""

    def __init__(self, width: int, height: int) -> None:
        self._pixels = np.full((height, width, 3), GROUND, np.uint8)
        size = (FINER * width, FINER * height)
        self._marks = Image.new("RGBA", size, (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self._marks)

    def show(self, values: NDArray[np.floating], frame: Frame, tint: ArrayLike = (1, 1, 1)) -> None:
        """Puts a slice into its frame.

        Args:
            values: (side · side,) in [0, 1], row by row.
            frame: where.
            tint: (3,), or (side · side, 3), what red, green and blue are multiplied by.
        """
        grey = np.clip(values, 0, 1)[:, None] * np.asarray(tint)
        rows, columns = (slice(first, first + frame.side) for first in (frame.top, frame.left))
        self._pixels[rows, columns] = np.rint(255 * grey).reshape(frame.side, frame.side, 3)

    def cross(self, place: ArrayLike, colour: Colour, free: float, arm: float = 5.0) -> None:
        """Draws a cross that leaves its middle free up to so many pixels, and hides nothing."""
        x, y = _pair(place)
        for across, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            ends = [(x + s * across, y + s * down) for s in (free, free + arm)]
            self.line(ends, colour)

    def circle(self, place: ArrayLike, radius: float, colour: Colour) -> None:
        """Draws a circle; its radius is in pixels."""
        x, y = _pair(place)
        for colour_, width in ((SHADOW, 4), (colour, 2)):
            box = [FINER * value for value in (x - radius, y - radius, x + radius, y + radius)]
            self._draw.ellipse(box, outline=colour_, width=width)

    def diamond(self, place: ArrayLike, colour: Colour, size: float = 4.0) -> None:
        """Draws a small diamond."""
        x, y = _pair(place)
        corners = [(x, y - size), (x + size, y), (x, y + size), (x - size, y), (x, y - size)]
        self.line(corners, colour)

    def line(self, places: Sequence[ArrayLike], colour: Colour) -> None:
        """Draws a line from place to place, with a dark edge."""
        points = [tuple(FINER * value for value in _pair(place)) for place in places]
        for colour_, width in ((SHADOW, 5), (colour, 3)):
            self._draw.line(points, fill=colour_, width=width, joint="curve")

    def dot(self, place: ArrayLike, colour: Colour, radius: float = 2.5) -> None:
        """Draws a disc with a dark edge."""
        x, y = (FINER * value for value in _pair(place))
        reach = FINER * radius
        box = [x - reach, y - reach, x + reach, y + reach]
        self._draw.ellipse(box, fill=colour, outline=SHADOW, width=2)

    def write(
        self,
        text: str,
        left: float,
        top: float,
        *,
        size: int = LETTER_PIXELS,
        colour: Colour = INK,
        anchor: str = "la",
    ) -> None:
        """Writes a line with a dark edge; `anchor` is Pillow's: what of it is at the place."""
        style: dict[str, Any] = {"fill": colour, "stroke_fill": SHADOW, "anchor": anchor}
        place = (FINER * left, FINER * top)
        self._draw.text(place, text, font=_font(FINER * size), stroke_width=3, **style)

    def letters(self, frame: Frame) -> None:
        """Writes the patient's sides at the edges of a slice."""
        left, right, top, bottom = frame.view.sides
        middle = frame.side / 2
        for text, across, down, anchor in (
            (left, 4.0, middle, "lm"),
            (right, frame.side - 4.0, middle, "rm"),
            (top, middle, 4.0, "ma"),
            (bottom, middle, frame.side - 4.0, "md"),
        ):
            self.write(text, frame.left + across, frame.top + down, anchor=anchor, colour=SOFT)

    def save(self, path: Path) -> None:
        """Writes the picture as WebP."""
        height, width = self._pixels.shape[:2]
        marks = self._marks.resize((width, height), Image.Resampling.BOX)
        whole = Image.alpha_composite(Image.fromarray(self._pixels).convert("RGBA"), marks)
        with replacing(path) as beside:
            whole.convert("RGB").save(beside, format="WEBP", quality=QUALITY, method=METHOD)


_font = functools.cache(ImageFont.load_default)


def _pair(place: ArrayLike) -> tuple[float, float]:
    x, y = np.asarray(place, dtype=np.float64).tolist()
    return x, y
