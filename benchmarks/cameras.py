"""Measure a finished run of `zoomin` on stand-ins for other cameras.

Each annotated fundus photograph is changed as another camera might show it (size, crop, tint,
exposure, light, noise, border, a field that is narrower or points elsewhere) and searched by the
network that never saw it. Points are brought back into the photograph as given.

Usage: python -m benchmarks.cameras RESULTS/RUN --data FOLDER --output TABLE.csv [--scale 4]
                                    [--only NAME ...]
FOLDER holds images/ and landmarks.csv, --scale is what one of its pixels counts in the table.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from landmarkflow.core.files import read_json
from landmarkflow.learning.crops import Pyramid
from landmarkflow.learning.radii import Radii
from landmarkflow.methods.zoomin.doubts import Limits, doubts
from landmarkflow.methods.zoomin.find import Finder, Pair
from landmarkflow.methods.zoomin.networks import finder_of, load_pairs
from landmarkflow.methods.zoomin.prepare import RoundField, find_field, prepared
from landmarkflow.methods.zoomin.settings import ZoomInSettings
from landmarkflow.methods.zoomin.shape import Shape

Array = NDArray[np.float64]
Picture = NDArray[np.uint8]
CPU = torch.device("cpu")
# A place whose brightest colour is below this lies beyond the field, so it is not to be found.
DARK = 6


@dataclass(frozen=True, eq=False)
class Changed:
    """A picture, and where a pixel of the photograph as given lies in it: factor · x + shift."""

    picture: Picture
    factor: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def there(self, points: Array) -> Array:
        """(n, 2) pixels of the photograph as pixels of the picture."""
        return np.asarray(points * self.factor + np.array(self.shift))

    def back(self, points: Array) -> Array:
        """The other way."""
        return np.asarray((points - np.array(self.shift)) / self.factor)


def cropped(picture: Picture, left: int, top: int, wide: int, high: int) -> Changed:
    """A part of a picture, or more than it, which is black."""
    rows, columns = picture.shape[:2]
    out = np.zeros((high, wide, picture.shape[2]), np.uint8)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(columns, left + wide), min(rows, top + high)
    out[y0 - top : y1 - top, x0 - left : x1 - left] = picture[y0:y1, x0:x1]
    return Changed(out, shift=(-left, -top))


def resized(picture: Picture, wide: int) -> Changed:
    """A picture of another width."""
    factor = wide / picture.shape[1]
    size = (wide, round(picture.shape[0] * factor))
    shown = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    return Changed(shown, factor, ((factor - 1) / 2,) * 2)


def whole(values: NDArray[Any]) -> Picture:
    """Values rounded to 0 to 255."""
    return np.asarray(np.clip(values, 0, 255).round(), dtype=np.uint8)


def jpeg(picture: Picture, quality: int) -> Picture:
    """A picture after JPEG compression."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def blurred(picture: Picture, width: float) -> Picture:
    """A picture after a Gaussian blur, pixels."""
    return whole(ndimage.gaussian_filter(picture.astype(np.float32), (width, width, 0)))


@dataclass(frozen=True, eq=False)
class Eye:
    """A photograph: its field, on which side (-1, 1) of the fovea the disc lies, its stream."""

    picture: Picture
    field: RoundField
    side: float
    random: np.random.Generator

    @property
    def away(self) -> Array:
        """(rows, columns) distance from the field's middle, of its radius."""
        y, x = np.indices(self.picture.shape[:2])
        off = np.hypot(x - self.field.x, y - self.field.y)
        return np.asarray(off / (self.field.diameter / 2))

    def lit(self, values: NDArray[Any]) -> Picture:
        """Values within the field, the photograph beyond it."""
        return whole(np.where((self.away < 1)[..., None], values, self.picture))

    def tinted(self, gains: Sequence[float], *, gamma: float = 1.0, shift: float = 0.0) -> Changed:
        """Other colours."""
        values = (self.picture / 255) ** gamma * np.array(gains) + shift
        return Changed(self.lit(values * 255))

    def through(self, radius: float, towards_disc: float = 0.0) -> Changed:
        """A narrower field; both are shares of the field's radius."""
        own = self.field.diameter / 2
        y, x = np.indices(self.picture.shape[:2])
        off = np.hypot(x - self.field.x - self.side * towards_disc * own, y - self.field.y)
        return Changed(whole(self.picture * np.clip(radius * own - off + 0.5, 0, 1)[..., None]))

    @property
    def vignette(self) -> Array:
        """(rows, columns, 1) a quarter of the light at the border."""
        return np.asarray((1 - 0.75 * np.clip(self.away, 0, 1) ** 2)[..., None])

    @property
    def side_light(self) -> Array:
        """(rows, columns, 1) four times as much light at the right as at the left."""
        x = np.arange(self.picture.shape[1]) - self.field.x
        return np.asarray((1 + 0.6 * x / (self.field.diameter / 2))[None, :, None])

    def noisy(self, picture: Picture, deviation: float, mean: float = 0.0) -> Picture:
        """A picture with noise."""
        return whole(picture + self.random.normal(mean, deviation, picture.shape))

    def bordered(self) -> Picture:
        """A border that is not black."""
        border = self.random.normal(12, 5, self.picture.shape)
        return whole(np.where((self.away < 1)[..., None], np.maximum(self.picture, 12), border))

    def on_white(self) -> Picture:
        """A white border."""
        return whole(np.where((self.away < 1)[..., None], self.picture, 255))

    def labelled(self) -> Changed:
        """A wider border with white text in a corner."""
        rows, columns = self.picture.shape[:2]
        made = cropped(self.picture, -60, -60, columns + 120, rows + 120)
        image = Image.fromarray(made.picture)
        font = ImageFont.load_default(28)
        text = "OD 12/03/2014 10:22\nID 004711  45 deg"
        ImageDraw.Draw(image).text((20, 10), text, fill=(255, 255, 255), font=font)
        return Changed(np.asarray(image), shift=made.shift)

    def squared(self) -> Changed:
        """Cropped to a square, so that the field's sides are cut off."""
        rows = self.picture.shape[0]
        return cropped(self.picture, round(self.field.x - rows / 2), 0, rows, rows)

    def wider(self, share: float) -> Changed:
        """A border wider by a share of the photograph's width."""
        rows, columns = self.picture.shape[:2]
        more = round(share * columns)
        return cropped(self.picture, -more, -more, columns + 2 * more, rows + 2 * more)

    def first(self) -> Changed:
        """A narrow round field, small, red, compressed."""
        small = resized(self.through(0.74).picture, 500)
        red = whole(small.picture * np.array([1.25, 0.7, 0.5]))
        return Changed(jpeg(red, 40), small.factor, small.shift)

    def second(self) -> Changed:
        """Large, pale, with noise also in the border."""
        large = resized(self.tinted((0.5, 0.5, 0.5), shift=0.4).picture, 2124)
        return Changed(self.noisy(large.picture, 6, 6), large.factor, large.shift)

    def third(self) -> Changed:
        """Pointed at the disc, dark, blurred."""
        soft = blurred(self.through(0.7, 0.3).picture, 1.5)
        return Changed(whole(soft * np.array([0.6, 0.7, 1.2]) * self.vignette))


STAND_INS: Mapping[str, Callable[[Eye], Changed]] = {
    "as given": lambda eye: Changed(eye.picture),
    "500 pixels wide": lambda eye: resized(eye.picture, 500),
    "2124 pixels wide": lambda eye: resized(eye.picture, 2124),
    "cropped to a square": Eye.squared,
    "wider border": lambda eye: eye.wider(0.25),
    "text in the border": Eye.labelled,
    "border 12 with noise": lambda eye: Changed(eye.bordered()),
    "white border": lambda eye: Changed(eye.on_white()),
    "reddish": lambda eye: eye.tinted((1.25, 0.7, 0.5)),
    "greenish": lambda eye: eye.tinted((0.75, 1.15, 0.8)),
    "bluish": lambda eye: eye.tinted((0.8, 1.0, 2.0)),
    "pale": lambda eye: eye.tinted((0.5, 0.5, 0.5), shift=0.4),
    "underexposed": lambda eye: eye.tinted((0.35, 0.35, 0.35), gamma=1.2),
    "overexposed": lambda eye: eye.tinted((1.8, 1.8, 1.8)),
    "gamma 1/2": lambda eye: eye.tinted((1, 1, 1), gamma=0.5),
    "gamma 2": lambda eye: eye.tinted((1, 1, 1), gamma=2),
    "green alone": lambda eye: Changed(np.ascontiguousarray(eye.picture[..., 1:2])),
    "vignette": lambda eye: Changed(whole(eye.picture * eye.vignette)),
    "light from a side": lambda eye: Changed(whole(eye.picture * eye.side_light)),
    "JPEG 40": lambda eye: Changed(jpeg(eye.picture, 40)),
    "JPEG 10": lambda eye: Changed(jpeg(eye.picture, 10)),
    "blur of 3 pixels": lambda eye: Changed(blurred(eye.picture, 3)),
    "noise of 15": lambda eye: Changed(eye.noisy(eye.picture, 15)),
    "field 0.9": lambda eye: eye.through(0.9),
    "field 0.75": lambda eye: eye.through(0.74),
    "field 0.7": lambda eye: eye.through(0.7),
    "field 0.7, towards the disc": lambda eye: eye.through(0.7, 0.3),
    "field 0.7, away from the disc": lambda eye: eye.through(0.7, -0.3),
    "field 0.85, towards the disc": lambda eye: eye.through(0.85, 0.15),
    "round, small, red, JPEG 40": Eye.first,
    "large, pale, noisy border": Eye.second,
    "towards the disc, dark, blurred": Eye.third,
}


@dataclass(frozen=True, eq=False)
class Known:
    """A finished run: settings, networks, and what it was calibrated to."""

    settings: ZoomInSettings
    pairs: Mapping[str, Pair]
    calibration: Mapping[str, Any]

    @staticmethod
    def of(run: Path) -> "Known":
        """That of a run's folder."""
        settings = ZoomInSettings.model_validate_json(
            json.dumps(read_json(run / "made.json")["settings"])
        )
        known = read_json(run / "work/calibrate/calibration.json")
        pairs = load_pairs(
            run / "work/calibrate/networks.npz",
            known["networks"],
            train=settings.train,
            colours=known["colours"],
            landmarks=known["landmarks"],
            device=CPU,
        )
        return Known(settings, pairs, known)

    def finder(self, scan: str) -> tuple[Finder, Shape]:
        """The search by the networks that never saw a photograph, and their shape."""
        names = self.calibration["held_back_from"][scan]
        shape = Shape.of_data(self.calibration["shapes"][names[0]])
        pairs = {name: self.pairs[name] for name in names}
        return finder_of(pairs, self.settings.train, self.settings.zoom, CPU, shape), shape


def measured(
    known: Known, scan: str, changed: Changed, truth: Array, scale: float
) -> Iterator[dict[str, object]]:
    """What is found of each landmark in a changed photograph; lengths count `scale` a pixel."""
    finder, shape = known.finder(scan)
    gather, landmarks = known.settings.gather, known.calibration["landmarks"]
    picture = changed.picture
    field = find_field(picture, gather.field)
    shown = prepared(picture, field, gather.size, known.calibration["colours"])
    found = finder.find(Pyramid.of(torch.from_numpy(shown.channels)))
    places, rows, columns = shown.frame.to_picture(found.positions), *picture.shape[:2]
    last = np.array([columns, rows]) - 0.5
    reasons = doubts(
        *(found, landmarks, shape),
        size=gather.size,
        depth=np.minimum(places + 0.5, last - places).min(axis=1),
        limits=Limits.of_data(known.calibration["limits"]),
    )
    radii = Radii.of_data(known.calibration["radii"]).of_scan(found.spread)
    off = np.linalg.norm(changed.back(places) - truth, axis=1)
    at = changed.there(truth).round().astype(int)
    within = np.all((at >= 0) & (at <= np.array([columns - 1, rows - 1])), axis=1)
    for k, label in enumerate(landmarks):
        lit = bool(within[k]) and picture[at[k, 1], at[k, 0]].max() > DARK
        yield {
            "scan": scan,
            "landmark": label,
            "error": scale * off[k] if lit else np.nan,
            "radius": scale * radii[k] * shown.frame.scale / changed.factor,
            "field_found": field.certain,
            "doubtful": bool(reasons) or not field.certain,
            "reasons": "; ".join(reasons),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; write a row for each stand-in, photograph and landmark, and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the finished run's folder")
    parser.add_argument("--data", type=Path, required=True, help="images/ and landmarks.csv")
    parser.add_argument("--output", type=Path, required=True, help="table to write")
    parser.add_argument("--scale", type=float, default=1.0, help="what a pixel counts")
    parser.add_argument("--only", nargs="*", default=list(STAND_INS), help="names of stand-ins")
    parser.add_argument("--scans", nargs="*", help="of these photographs alone")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    known = Known.of(given.run)
    marks = pd.read_csv(given.data / "landmarks.csv").set_index(["image", "landmark"])
    files = {path.stem: path for path in sorted((given.data / "images").iterdir())}
    found = []
    for number, scan in enumerate(given.scans or known.calibration["held_back_from"]):
        truth = np.array([marks.loc[(scan, k), ["x", "y"]] for k in known.calibration["landmarks"]])
        picture = np.asarray(Image.open(files[scan]).convert("RGB"))
        side = float(np.sign(truth[1, 0] - truth[0, 0]))
        for name in given.only:
            random = np.random.default_rng([7, number])
            eye = Eye(picture, find_field(picture, "round"), side, random)
            rows = measured(known, scan, STAND_INS[name](eye), truth.astype(float), given.scale)
            found += [{"stand_in": name, **row} for row in rows]
    table = pd.DataFrame(found)
    table.to_csv(given.output, index=False, quoting=csv.QUOTE_MINIMAL)
    summary = table.groupby(["stand_in", "landmark"], sort=False).error.describe([0.5, 0.95])
    print(summary[["count", "mean", "50%", "95%", "max"]].round(1).to_string())  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
