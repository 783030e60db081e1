"""What can be chosen in each stage of the method `dualhead`; units are in the names."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from landmarkflow.core.settings import Settings, section

TURNED, CLOSE = "turned", "close"
Share = Annotated[float, Field(ge=0, le=1)]


class GatherSettings(Settings):
    """What is taken of each annotated scan: two crops around its target, coarse and fine."""

    low: float = Field(-1024.0, description="intensity that becomes 0, as does all below it")
    high: float = Field(2500.0, description="intensity that becomes 1, as does all above it")
    coarse_mm: float = Field(
        0.5, gt=0, description="voxel size at which the target is looked for in whole scans, mm"
    )
    fine_mm: float = Field(
        0.25, gt=0, description="voxel size at which landmarks and labels are found, mm"
    )
    coarse_field_mm: float = Field(
        64.0, gt=0, description="width of the coarse crop around the target, mm; it bounds memory"
    )
    fine_margin_mm: float = Field(
        7.0, ge=0, description="margin of the fine crop around the target, mm"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class PassSettings(Settings):
    """One pass over a scan: its network, its window, and how long it learns."""

    window: int = Field(
        48, ge=8, description="side of the window, voxels; a multiple of 2 to the `levels` - 1"
    )
    channels: int = Field(
        16, ge=1, description="channels of the first level; each further one has twice as many"
    )
    levels: int = Field(
        4, ge=1, description="number of resolutions, each half as fine as the one before"
    )
    sigma_voxels: float = Field(
        2.0, ge=0.7, description="standard deviation of a landmark's Gaussian, voxels"
    )
    steps: int = Field(600, ge=1, description="number of windows learned from; more are slower")
    shift_mm: float = Field(
        3.0, ge=0, description="largest shift of a window from the target's centre, mm, each axis"
    )
    elsewhere: Share = Field(
        0.0, description="share of windows anywhere in the crop, which show what is background"
    )

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.window % (step := 2 ** (self.levels - 1)):
            raise ValueError(f"window ({self.window}) must be a multiple of {step}")
        return self


class CloseSettings(Settings):
    """The close pass: the fine network, taught further in small windows around single landmarks."""

    steps: int = Field(0, ge=0, description="number of windows learned from; 0 for no such pass")
    window: int = Field(32, ge=8, description="side of the window, voxels of the fine pass")
    shift_mm: float = Field(
        0.8, ge=0, description="largest shift of a window from its landmark, mm, each axis"
    )
    learning_rate: float = Field(
        0.001, gt=0, description="learning rate of AdamW at most, below that of the other passes"
    )


class TurnedSettings(Settings):
    """The turned pass: the fine network, taught further on targets that lie as the template's."""

    steps: int = Field(0, ge=0, description="number of windows learned from; 0 for no such pass")
    rotation_degrees: float = Field(
        12.0,
        ge=0,
        le=180,
        description="standard deviation of the rotation about each axis that is left, degrees",
    )
    learning_rate: float = Field(
        0.002, gt=0, description="learning rate of AdamW at most, below that of the fine pass"
    )


class TrainSettings(Settings):
    """The training of the networks, for the coarse, the fine, the turned and the close pass."""

    heads: tuple[Literal["segmentation", "landmarks"], ...] = Field(
        ("segmentation", "landmarks"),
        min_length=1,
        description="what the networks learn; without segmentation a run leaves none",
    )
    coarse: PassSettings = section(
        PassSettings,
        channels=8,
        sigma_voxels=1.5,
        steps=300,
        shift_mm=10.0,
        elsewhere=0.25,
    )
    fine: PassSettings = section(PassSettings, window=56, steps=900)
    turned: TurnedSettings = section(TurnedSettings)
    close: CloseSettings = section(CloseSettings)
    held_back: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="share of the annotated scans that is held back for validation and radii, "
        "where there are no folds and no scans of the split `validation`",
    )
    segmentation_loss: Literal["dice_ce", "dice", "cross_entropy"] = Field(
        "dice_ce", description="loss of the segmentation: Dice, cross-entropy, or their sum"
    )
    hardest: float = Field(
        0.1,
        gt=0,
        le=1,
        description="share of a window's voxels, those with most of it, that cross-entropy counts",
    )
    landmark_loss: Literal["softmax", "mse", "balls"] = Field(
        "softmax",
        description="loss of the heat maps: softmax over the window, mean squared error, or "
        "cross-entropy with balls over the worst voxels",
    )
    landmark_weight: float = Field(
        0.5, ge=0, description="weight of the landmarks' loss beside the segmentation's"
    )
    distance_weight: float = Field(
        0.1, ge=0, description="in the softmax loss, weight of the distance in voxels"
    )
    rotation_degrees: float = Field(
        12.0,
        ge=0,
        le=180,
        description="standard deviation of the rotation about each axis, degrees; 180 is every "
        "orientation alike",
    )
    scale: float = Field(0.1, ge=0, lt=0.7, description="largest relative change of size")
    stretch: float = Field(
        0.08, ge=0, lt=0.7, description="largest relative change along each axis beside that"
    )
    bend_mm: float = Field(0.4, ge=0, description="deviation of a smooth bend, mm; 0 for none")
    contrast: float = Field(0.2, ge=0, lt=1, description="largest relative change of contrast")
    brightness: float = Field(0.06, ge=0, lt=1, description="largest shift of intensities")
    gamma: float = Field(0.3, ge=0, description="largest logarithm of a gamma exponent")
    blur_mm: float = Field(0.3, ge=0, description="largest deviation of a blur, mm")
    noise: float = Field(
        0.04, ge=0, description="largest deviation of the noise on intensities of 0 to 1"
    )
    cut: Share = Field(
        0.1, description="share of windows that are cut off at a plane, as by a scan's border"
    )
    other_background: Share = Field(
        0.3, description="share of windows around whose target lies another scan's background"
    )
    learning_rate: float = Field(
        0.003, gt=0, description="learning rate of AdamW at most; if too large, training diverges"
    )
    weight_decay: float = Field(0.0001, ge=0, description="weight decay of AdamW")
    steps_per_epoch: int = Field(
        50, ge=1, description="windows in an epoch, after which there is a checkpoint"
    )
    validation_scans: int = Field(
        3, ge=0, description="scans held back that are looked at in each epoch; more are slower"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="numbers that convolutions compute with; auto is bfloat16 where processor or "
        "GPU is fast at it",
    )

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.heads)) < len(self.heads):
            raise ValueError(f"heads names one twice: {', '.join(self.heads)}")
        return self

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        step = 2 ** (self.fine.levels - 1)
        if self.close.steps and self.close.window % step:
            raise ValueError(
                f"close.window ({self.close.window}) must be a multiple of {step}, as fine.levels "
                "has it"
            )
        return self

    @property
    def passes(self) -> dict[str, PassSettings]:
        """The passes by name, as they learn: coarse, fine, perhaps turned, perhaps close."""
        found = {"coarse": self.coarse, "fine": self.fine}
        if self.turned.steps and "landmarks" in self.heads:
            own = {"steps": self.turned.steps, "elsewhere": 0.0}
            found[TURNED] = self.fine.model_copy(update=own)
        if self.close.steps and "landmarks" in self.heads:
            own = self.close.model_dump(include={"steps", "window", "shift_mm"})
            found[CLOSE] = self.fine.model_copy(update={**own, "elsewhere": 0.0})
        return found

    def learning_rate_of(self, name: str) -> float:
        """The highest learning rate of a pass."""
        own = {TURNED: self.turned.learning_rate, CLOSE: self.close.learning_rate}
        return own.get(name, self.learning_rate)

    def rotation_of(self, name: str) -> float:
        """Standard deviation of the rotation of a pass' windows, degrees."""
        return self.turned.rotation_degrees if self.is_turned(name) else self.rotation_degrees

    def is_turned(self, name: str) -> bool:
        """Whether a pass sees targets that lie as the template's does."""
        return TURNED in self.passes and name in (TURNED, CLOSE)


class CalibrateSettings(Settings):
    """The radii, from errors on scans that the networks never saw."""

    coverage: float = Field(
        0.9, gt=0, lt=1, description="share of true places that are to lie within the radius"
    )
    by_spread: bool = Field(
        True, description="whether a radius grows with the width of its landmark's heat map"
    )


class PredictSettings(Settings):
    """How a scan is searched, how places are read off, and what is doubtful."""

    decoding: Literal["mean", "parabola", "maximum", "expectation"] = Field(
        "mean", description="how a place is read off a heat map"
    )
    orientations: Literal["upright", "all"] = Field(
        "upright",
        description="upright, or all: each window is seen in 24 orientations, 24 times as slow",
    )
    overlap: float = Field(
        0.25, ge=0, lt=1, description="share of a window that its neighbour covers, too"
    )
    block_voxels: int = Field(
        128, ge=32, description="side of the part of a scan that is held at once; bounds memory"
    )
    margin_mm: float = Field(
        2.0, ge=0, description="margin of the fine window around what the coarse pass found, mm"
    )
    least_evidence: Share = Field(
        0.15, description="evidence of the target, 0 to 1, below which a scan fails"
    )
    rival: Share = Field(
        0.5, description="share of the best place's evidence from which another place is a doubt"
    )
    least_presence: Share = Field(
        0.5, description="probability that a landmark is in the window, below which it is a doubt"
    )
    most_elsewhere: Share = Field(
        0.4, description="share of a heat map far from its place from which there are two peaks"
    )
    most_deviations: float = Field(
        5.0,
        gt=0,
        description="deviations of the training's distances between landmarks, beyond which a "
        "distance is unlikely",
    )
    most_apart_mm: float = Field(
        1.0, gt=0, description="distance of the networks' places from which they disagree, mm"
    )
    largest_piece: Share = Field(
        0.1, description="size of a second piece of the segmentation, of the first, that is a doubt"
    )
    most_volume: float = Field(
        1.6, ge=1, description="how many times larger or smaller than in training is a doubt"
    )


class DualHeadSettings(Settings):
    """One volumetric U-Net with two heads, segmentation and landmarks, in two passes to four."""

    gather: GatherSettings = section(GatherSettings)
    train: TrainSettings = section(TrainSettings)
    calibrate: CalibrateSettings = section(CalibrateSettings)
    predict: PredictSettings = section(PredictSettings)
