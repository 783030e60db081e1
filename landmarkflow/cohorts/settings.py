"""What the user chooses about the simulated cohort."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

EAR_REACH_MM = 8.0


class CohortSettings(BaseModel):
    """Volume, pose and scanner of the simulated temporal-bone scans.

    Attributes:
        size: Voxels along x, y, z.
        spacing: Voxel size in mm along x, y, z.
        rotation_degrees: Largest head rotation about each axis, drawn uniformly from ± this.
        shift_mm: Largest distance between the cochlea's centre and the volume's centre along
            each axis, drawn uniformly from ± this.
        noise_hu: Range of the noise's standard deviation in HU.
        blur_mm: Range of the scanner's point spread, full width at half maximum in mm.
        left_fraction: Probability that a subject is a left ear; subject 0 is a right ear.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (192, 192, 96)
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.25, 0.25, 0.3333)
    rotation_degrees: float = Field(default=15.0, ge=0, le=45)
    shift_mm: float = Field(default=8.0, ge=0, le=30)
    noise_hu: tuple[float, float] = (40.0, 80.0)
    blur_mm: tuple[float, float] = (0.4, 0.5)
    left_fraction: float = Field(default=0.5, ge=0, le=1)

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
