"""The settings of the evaluation."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveMillimetres = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class EvaluateSettings(BaseModel):
    """What the evaluation measures and how its tables look."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    radii_mm: tuple[PositiveMillimetres, ...] = Field(
        (0.25, 0.5, 1.0, 2.0),
        min_length=1,
        description="Radii of the success detection rate, in mm, in ascending order.",
    )
    large_error_mm: PositiveMillimetres = Field(
        2.0, description="A scan whose mean error exceeds this, in mm, is listed as a failure."
    )
    columns: dict[str, str] = Field(
        {}, description="Column titles of Table 1: landmark label to printed name."
    )
    published: Literal["wang2020"] | None = Field(
        None, description="Published table to compare with, matched by the printed names."
    )
    bootstrap: int = Field(
        2000, ge=100, le=100_000, description="Resamples of the interval of the mean."
    )
    table_landmarks_limit: int = Field(
        12, ge=1, description="With more landmarks, Table 1 has summary columns for each scan."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(b <= a for a, b in zip(self.radii_mm, self.radii_mm[1:], strict=False)):
            raise ValueError(f"radii_mm must ascend, found {list(self.radii_mm)}")
        names = list(self.columns.values())
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"columns gives the same printed name to two landmarks: {twice}")
        return self

    def printed_name(self, label: str) -> str:
        """Returns the column title of a landmark: its label unless `columns` names another."""
        return self.columns.get(label, label)
