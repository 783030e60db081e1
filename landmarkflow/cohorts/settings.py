"""What the user chooses about the simulated cohort."""

from typing import Literal, Self

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from landmarkflow.core.settings import Settings

EAR_REACH_MM = 8.0


class CohortSettings(Settings):
    """Volume, pose and scanner of the simulated temporal-bone scans."""

    size: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (192, 192, 96), description="voxels of a scan along x, y and z"
    )
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(
        (0.25, 0.25, 0.3333), description="voxel size along x, y and z, in mm"
    )
    rotation_degrees: float = Field(
        15.0,
        ge=0,
        le=45,
        description="largest rotation of a head about each axis, in degrees; any between minus "
        "and plus this is as likely",
    )
    shift_mm: float = Field(
        8.0,
        ge=0,
        le=30,
        description="largest distance of the cochlea's centre from the volume's along each axis, "
        "in mm; any between minus and plus this is as likely",
    )
    noise_hu: tuple[float, float] = Field(
        (40.0, 80.0),
        description="lowest and highest standard deviation of the noise, in HU; each scan has one "
        "between them",
    )
    blur_mm: tuple[float, float] = Field(
        (0.4, 0.5),
        description="narrowest and widest point spread of the scanner, full width at half "
        "maximum, in mm; each scan has one between them",
    )
    left_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description="probability that a scan shows a left ear, 0 to 1; the template is a right ear",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("noise_hu", "blur_mm"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} is {low} to {high}, expected 0 <= first <= second")
        needed = 2 * (self.shift_mm + EAR_REACH_MM)
        for axis, count, step in zip("xyz", self.size, self.spacing, strict=True):
            if count * step < needed - 0.01:
                raise ValueError(
                    f"the volume is {count * step:.1f} mm along {axis}, expected at least "
                    f"{needed:.1f} mm to hold the cochlea at every shift up to {self.shift_mm} mm"
                )
        return self


def side_of(settings: CohortSettings, seed: int, index: int) -> Literal["left", "right"]:
    """Side of subject `index`, known before it is simulated; the template, 0, is a right ear."""
    left = index != 0 and np.random.default_rng([seed, index, 1]).random() < settings.left_fraction
    return "left" if left else "right"
