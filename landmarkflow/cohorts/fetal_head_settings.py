"""What the user chooses about the simulated cohort of fetal heads in ultrasound."""

from typing import Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from landmarkflow.core.settings import Settings, section

Plane = Literal["TV", "TC"]
# Structures that observers look at, by plane; beside them the references hold the head's centre.
STRUCTURES: dict[Plane, tuple[str, str]] = {"TV": ("csp", "lv"), "TC": ("csp", "cerebellum")}
HEAD_CENTRE = "head_centre"
LABELS = ("csp", "lv", "cerebellum", HEAD_CENTRE)


class ScannerSettings(Settings):
    """What makes pictures of a scanner hard to read."""

    hidden: float = Field(
        0.1, ge=0, le=1, description="share of structures of which hardly anything is seen"
    )
    both: float = Field(
        0.35, ge=0, le=1, description="share of heads whose near ventricle is seen, too"
    )
    haze: float = Field(
        1.0, ge=0, description="strength of the echoes that run between bone and probe"
    )
    looks: int = Field(
        6, ge=1, description="most looks that a picture is the mean of: more have less speckle"
    )
    range_db: tuple[float, float] = Field(
        (38.0, 65.0), description="least and largest range of amplitudes that is shown, decibels"
    )
    boxed: float = Field(
        0.6, ge=0, le=1, description="share of pictures with black boxes over text"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.range_db
        if not 0 < low <= high:
            raise ValueError(f"range_db is {low:g} to {high:g}, expected 0 < first <= second")
        return self


class FetalHeadSettings(Settings):
    """Size, pose, and observers of the simulated transventricular and transcerebellar planes."""

    size: tuple[PositiveInt, PositiveInt] = Field((288, 224), description="pixels along x and y")
    long_axis: tuple[float, float] = Field(
        (150.0, 215.0), description="shortest and longest long axis of a head, pixels"
    )
    planes: tuple[Plane, ...] = Field(
        ("TV", "TC"),
        min_length=1,
        description="transventricular (TV) and transcerebellar (TC) planes, shown by turns",
    )
    look: Literal["plain", "scanner"] = Field(
        "plain",
        description="how heads are shown: clearly, or as a scanner does, by `scanner`",
    )
    scanner: ScannerSettings = section(ScannerSettings)
    rotation_degrees: float = Field(
        15.0, ge=0, le=90, description="standard deviation of a head's rotation, degrees"
    )
    shift: float = Field(
        0.07,
        ge=0,
        description="standard deviation of a head's centre along each axis, of its long axis",
    )
    flipped: float = Field(
        0.5,
        ge=0,
        le=1,
        description="probability that a head looks to the right and not to the left",
    )
    variation: float = Field(
        0.015,
        ge=0,
        le=0.05,
        description="standard deviation of a structure's place in the head, of its long axis",
    )
    observers: int = Field(6, ge=1, description="how many look at each picture")
    points: float = Field(6.0, gt=0, description="mean number of an observer's fixations")
    centre_bias: float = Field(
        0.12, ge=0, le=1, description="share of fixations that are drawn to the picture's centre"
    )
    elsewhere: float = Field(
        0.05, ge=0, le=1, description="share of fixations that lie anywhere, all places alike"
    )
    spread: float = Field(
        0.02,
        ge=0,
        description="standard deviation of fixations about their structure, of the long axis",
    )
    tracker_noise: float = Field(
        2.5, ge=0, description="standard deviation of the tracker's noise, pixels"
    )
    tracker_bias: float = Field(
        3.0, ge=0, description="standard deviation of an observer's constant error, pixels"
    )
    dropout: float = Field(
        0.08, ge=0, lt=1, description="share of fixations that the tracker loses"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.long_axis
        if not 40 <= low <= high <= min(self.size[0], 1.2 * self.size[1]):
            raise ValueError(
                f"long_axis is {low:g} to {high:g}, expected 40 <= first <= second and a head that "
                f"fits a picture of {self.size[0]} x {self.size[1]} pixels"
            )
        if self.centre_bias + self.elsewhere > 1:
            raise ValueError("centre_bias and elsewhere together exceed 1, expected shares")
        return self


def plane_of(settings: FetalHeadSettings, seed: int, index: int) -> Plane:
    """The plane that a picture shows: the first one in number 1, and so on by turns."""
    return settings.planes[(index - 1) % len(settings.planes)]


def long_axis_of(settings: FetalHeadSettings, seed: int, index: int) -> float:
    """Length of a head's long axis, pixels, to three decimals; known before the picture is."""
    drawn = np.random.default_rng([seed, index, 1]).uniform(*settings.long_axis)
    return round(float(drawn), 3)
