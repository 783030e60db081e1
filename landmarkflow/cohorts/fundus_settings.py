"""What the user chooses about the simulated fundus photographs."""

from typing import Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from landmarkflow.core.settings import Settings

FUNDUS_LANDMARKS = ("fovea", "optic_disc")


class FundusSettings(Settings):
    """Size, eyes, lesions and cameras of the simulated fundus photographs."""

    width: PositiveInt = Field(640, description="width of a photograph, pixels; it is 3/4 as high")
    field_share: float = Field(
        0.8,
        gt=0.3,
        le=1,
        description="diameter of the round field of camera A, share of the width; where it exceeds "
        "the height it is cut off",
    )
    right_fraction: float = Field(
        0.5, ge=0, le=1, description="probability that a photograph shows a right eye, 0 to 1"
    )
    rotation_degrees: float = Field(
        8.0, ge=0, le=45, description="largest rotation of an eye about the camera's axis, degrees"
    )
    shift: float = Field(
        0.06,
        ge=0,
        le=0.12,
        description="largest distance of the fovea from its usual place along each axis, share of "
        "the field's diameter",
    )
    lesions: float = Field(
        6.0, ge=0, description="mean number of clusters of exudates and of bleedings"
    )
    camera_b: float = Field(
        0.25,
        ge=0,
        le=1,
        description="probability that a photograph is of camera B: another tint, a narrower field, "
        "a square picture",
    )
    noise: float = Field(2.5, ge=0, description="standard deviation of the noise, of 255")

    @model_validator(mode="after")
    def _large_enough(self) -> Self:
        if self.width < 64:
            raise ValueError(f"width is {self.width}, expected at least 64 pixels")
        return self


def camera_of(settings: FundusSettings, seed: int, index: int) -> Literal["camera A", "camera B"]:
    """Camera of a photograph, known before it is simulated."""
    other = np.random.default_rng([seed, index, 2]).random() < settings.camera_b
    return "camera B" if other else "camera A"
