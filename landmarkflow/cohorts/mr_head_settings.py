"""What the user chooses about the simulated cohort of heads in magnetic resonance."""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from landmarkflow.core.settings import Settings

LABELS = ("genu", "splenium", "horn_left", "horn_right", "pineal", "fastigium")
# Half lengths of the largest head, mm along x, y and z, at every pose.
HEAD_REACH_MM = 88.0


class MrHeadSettings(Settings):
    """Volume, pose and scanner of the simulated heads, whose grey values have no unit."""

    size: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (96, 112, 104), description="voxels of a scan along x, y and z"
    )
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(
        (2.0, 2.0, 2.0), description="voxel size along x, y and z, in mm"
    )
    contrast: Literal["t1", "t2"] = Field(
        "t1",
        description="t1: white matter is bright, fluid dark; t2: the other way round",
    )
    rotation_degrees: float = Field(
        30.0,
        ge=0,
        le=180,
        description="largest angle by which a head is turned, about any axis, in degrees",
    )
    shift_mm: float = Field(
        6.0, ge=0, le=30, description="largest shift of a head along each axis, in mm"
    )
    variation: float = Field(
        0.04, ge=0, le=0.15, description="standard deviation of sizes and places within the head"
    )
    bias: float = Field(
        0.2, ge=0, le=0.6, description="largest relative change of brightness over the volume"
    )
    noise: tuple[float, float] = Field(
        (0.02, 0.05),
        description="lowest and highest standard deviation of the noise, of white matter's "
        "brightness; it is Rician",
    )
    gain: tuple[float, float] = Field(
        (150.0, 1500.0), description="lowest and highest grey value that stands for brightness 1"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("noise", "gain"):
            low, high = getattr(self, name)
            if not 0 <= low <= high or (name == "gain" and low <= 0):
                raise ValueError(f"{name} is {low} to {high}, expected 0 <= first <= second")
        for axis, count, step in zip("xyz", self.size, self.spacing, strict=True):
            if count * step < 2 * HEAD_REACH_MM:
                raise ValueError(
                    f"the volume is {count * step:.1f} mm along {axis}, expected at least "
                    f"{2 * HEAD_REACH_MM:g} mm to hold a head's brain at every pose"
                )
        return self
