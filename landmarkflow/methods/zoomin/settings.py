"""What can be chosen in each stage of the method `zoomin`.

Lengths are shares of the width of a picture's field (the lit disc of a fundus photograph, or the
longer side of the picture), so that they mean the same in pictures of any size.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from landmarkflow.core.settings import Settings, section

Share = Annotated[float, Field(ge=0, le=1)]


class GatherSettings(Settings):
    """How every picture is brought into one frame before anything is learned or found."""

    field: Literal["round", "picture"] = Field(
        "picture",
        description="what is laid into the frame: the bright disc of a fundus camera, or the whole "
        "picture, letterboxed",
    )
    size: int = Field(
        640, ge=32, description="width of the frame, pixels; finer detail than that is lost"
    )
    colours: Literal["auto", "grey", "colour"] = Field(
        "auto",
        description="whether colours are learned; auto is where an annotated picture has any",
    )


class BranchSettings(Settings):
    """One branch: the pixels that it sees, and its network."""

    size: int = Field(96, ge=8, description="width of what the branch sees, pixels")
    stem: Literal[1, 2, 4] = Field(
        4, description="pixels of the picture to a pixel of the heat map, along each axis"
    )
    widths: tuple[int, ...] = Field(
        (32, 64, 96),
        min_length=1,
        description="channels of each level, each half as fine as the one before; multiples of 8",
    )
    sigma_pixels: float = Field(
        1.5, ge=0.7, description="standard deviation of a landmark's Gaussian, pixels of the map"
    )
    steps: int = Field(1000, ge=1, description="number of batches learned from; more are slower")
    batch: int = Field(4, ge=1, description="pictures in a batch")
    learning_rate: float = Field(
        0.003, gt=0, description="learning rate of AdamW at most; if too large, training diverges"
    )

    @property
    def map_size(self) -> int:
        """Width of the heat maps, pixels."""
        return self.size // self.stem

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        step = self.stem * 2 ** (len(self.widths) - 1)
        if self.size % step:
            raise ValueError(f"size ({self.size}) must be a multiple of {step}")
        if any(width % 8 or width < 8 for width in self.widths):
            raise ValueError(f"widths ({self.widths}) must be multiples of 8")
        return self


class CoarseSettings(BranchSettings):
    """The branch that sees the whole field: the pixels that it sees, and its network."""

    size: int = Field(192, ge=8, description="width of what the branch sees, pixels")
    widths: tuple[int, ...] = Field(
        (32, 64, 96, 128),
        min_length=1,
        description="channels of each level, each half as fine as the one before; multiples of 8",
    )
    steps: int = Field(1200, ge=1, description="number of batches learned from; more are slower")


class RegionSettings(BranchSettings):
    """The branch of the regions of interest, and how they are laid in training."""

    sigma_pixels: float = Field(
        1.0, ge=0.7, description="standard deviation of a landmark's Gaussian, pixels of the map"
    )
    steps: int = Field(900, ge=1, description="number of batches learned from; more are slower")
    fields: tuple[float, ...] = Field(
        (0.34, 0.75),
        min_length=1,
        description="widths of the regions of interest, shares of the field, the narrowest first",
    )
    at_once: int = Field(
        2,
        ge=1,
        description="landmarks of a picture that are zoomed in on in a batch, at most; those with "
        "larger misses more often",
    )
    misses: Share = Field(
        0.6,
        description="share of regions that are laid off a landmark by a miss of the coarse branch "
        "on pictures that it had not seen; the others are off by a Gaussian",
    )
    offset: float = Field(
        0.02, ge=0, description="deviation of that Gaussian along each axis, share of the field"
    )
    others: Share = Field(
        0.5,
        description="weight in the loss of the other landmarks that a region shows, of the one "
        "that it is laid for; a tenth of that where it does not show them",
    )
    elsewhere: Share = Field(
        0.1, description="share of regions laid anywhere, which show what is not the landmark"
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.fields) != sorted(set(self.fields)) or self.fields[0] <= 0:
            raise ValueError(f"fields ({self.fields}) must be above 0 and ascend")
        return self


class PartSettings(Settings):
    """Parts of the network of the regions, each of which can be left out."""

    co_attention: bool = Field(
        True, description="whether regions of different widths take from each other what is alike"
    )
    fusion: bool = Field(
        True,
        description="whether features of all regions make one heat map; else the narrowest alone "
        "does",
    )
    coarse_features: bool = Field(
        True, description="whether the coarse branch's features count in the fusion"
    )
    self_attention: bool = Field(
        True, description="whether the fusion attends to all pixels, by way of a few tokens"
    )
    auxiliary: float = Field(
        0.25, ge=0, description="weight of the losses of each region's own heat map; 0 for none"
    )
    own_branches: bool = Field(
        False, description="whether each width of region has a branch of its own"
    )
    attention_level: int = Field(
        2, ge=0, description="level of the branch whose features attend, 0 for the finest"
    )
    attractors: int = Field(64, ge=1, description="tokens of the fusion's attention")


class AugmentSettings(Settings):
    """How pictures are changed at random in training."""

    flip: bool = Field(
        False,
        description="whether half of the pictures are mirrored, left to right; pictures are then "
        "searched both ways, too",
    )
    rotation_degrees: float = Field(
        8.0, ge=0, description="standard deviation of the rotation, degrees"
    )
    scale: float = Field(0.15, ge=0, lt=0.7, description="largest relative change of size")
    stretch: float = Field(
        0.06, ge=0, lt=0.7, description="largest relative change along each axis beside that"
    )
    shift: float = Field(
        0.05, ge=0, description="largest shift of the coarse frame, share of the field"
    )
    contrast: float = Field(0.2, ge=0, lt=1, description="largest relative change of contrast")
    brightness: float = Field(0.1, ge=0, lt=1, description="largest shift of each colour")
    gamma: float = Field(0.35, ge=0, description="largest logarithm of a gamma exponent")
    gradient: float = Field(
        0.15, ge=0, description="largest change of brightness from one side to the other"
    )
    grey: Share = Field(0.15, description="share of pictures whose colours are made grey")
    dropped: Share = Field(0.05, description="share of channels that are left out")
    blur: float = Field(
        1.2, ge=0, description="largest deviation of a blur, thousandths of the field"
    )
    noise: float = Field(0.04, ge=0, description="largest deviation of noise, of the range")
    spots: float = Field(
        1.0, ge=0, description="mean number of bright and dark spots drawn over a picture"
    )
    cut: Share = Field(
        0.2, description="share of pictures whose field is made narrower or cut off at sides"
    )
    fields: Share = Field(
        0.0,
        description="share of pictures that are shown as by a camera with a narrower field that is "
        "pointed elsewhere: a smaller circle is laid into the frame, and what lies beyond it is "
        "not there",
    )
    narrowest: float = Field(
        0.6, gt=0, le=1, description="narrowest such field, of the picture's own"
    )


class TrainSettings(Settings):
    """The training of the networks: the coarse branch, then the regions of interest."""

    coarse: CoarseSettings = section(CoarseSettings)
    regions: RegionSettings = section(RegionSettings)
    parts: PartSettings = section(PartSettings)
    augment: AugmentSettings = section(AugmentSettings)
    joint: bool = Field(
        False, description="whether the coarse branch goes on learning with the regions"
    )
    held_back: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="share of the annotated pictures held back for radii where there are no folds",
    )
    loss: Literal["softmax", "mse"] = Field(
        "softmax",
        description="loss of the heat maps: softmax over the map, or mean squared error",
    )
    distance_weight: float = Field(
        0.1, ge=0, description="in the softmax loss, weight of the distance in pixels of the map"
    )
    weight_decay: float = Field(0.01, ge=0, description="weight decay of AdamW")
    average: float = Field(
        0.99, ge=0, lt=1, description="decay of the running mean of the weights, which is used"
    )
    steps_per_epoch: int = Field(
        50, ge=1, description="batches in an epoch, after which there is a checkpoint"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="numbers that convolutions compute with; auto is bfloat16 where processor or "
        "GPU is fast at it",
    )


class CalibrateSettings(Settings):
    """The radii, from errors on pictures that the networks never saw."""

    coverage: float = Field(
        0.9, gt=0, lt=1, description="share of true places that are to lie within the radius"
    )
    by_spread: bool = Field(
        True, description="whether a radius grows with the width of its landmark's heat map"
    )
    right_doubtful: Share = Field(
        0.05,
        description="limits of doubts widen until at most this share of the right pictures held "
        "back is doubtful: with more landmarks one of them is sooner beyond a limit",
    )
    right_radii: float = Field(
        2.0,
        gt=0,
        description="a picture held back is right where no landmark is farther off than so many of "
        "its radii",
    )


class ZoomSettings(Settings):
    """How a picture is searched, how places are read off, and what is doubtful."""

    decoding: Literal["mean", "parabola", "maximum", "expectation"] = Field(
        "mean", description="how a place is read off a heat map"
    )
    hypotheses: int = Field(
        3, ge=1, description="peaks of a coarse heat map that are zoomed in on, at most"
    )
    least_peak: Share = Field(
        0.05, description="share of a coarse heat map that a peak must hold to be zoomed in on"
    )
    looks: int = Field(
        5,
        ge=1,
        le=5,
        description="ways turned and enlarged a little in which a picture is searched; their maps "
        "are averaged",
    )
    rounds: int = Field(
        2, ge=0, description="looks at the place found, each centred on the one before; 0 for none"
    )
    least_presence: Share = Field(
        0.5, description="probability that a landmark is in its region, below which it is a doubt"
    )
    most_elsewhere: Share = Field(
        0.4, description="share of a heat map far from its place from which there are two peaks"
    )
    rival: Share = Field(
        0.5, description="share of the best hypothesis' score from which another one is a doubt"
    )
    most_apart: float = Field(
        0.03, gt=0, description="distance of networks' places, share of the field, that is a doubt"
    )
    most_moved: float = Field(
        0.06,
        gt=0,
        description="distance of coarse and final place, share of the field, that is a doubt",
    )
    other_scale: float = Field(
        0.0,
        ge=0,
        description="how much larger or smaller other cameras may show everything, a standard "
        "deviation as a share; hypotheses are judged by steps between landmarks so much wider",
    )
    judged_deviations: float = Field(
        8.0,
        gt=0,
        description="deviations of such a step beyond which it counts no more against a "
        "hypothesis; if large, a landmark out of sight draws those that are seen from their places",
    )
    most_deviations: float = Field(
        3.5,
        gt=0,
        description="deviations of the steps between landmarks in annotated pictures, beyond which "
        "a step is a doubt",
    )


class ZoomInSettings(Settings):
    """Coarse to fine in pictures: a look at all of it, then closer ones at each landmark."""

    gather: GatherSettings = section(GatherSettings)
    train: TrainSettings = section(TrainSettings)
    calibrate: CalibrateSettings = section(CalibrateSettings)
    zoom: ZoomSettings = section(ZoomSettings)
