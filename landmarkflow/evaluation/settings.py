"""The settings of the evaluation, and the units in which a study measures."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from landmarkflow.core.settings import Settings

Unit = Literal["mm", "px", "%"]
Distance = Annotated[float, Field(gt=0)]

# How captions and axes name a unit.
IN_WORDS = {"mm": "mm", "px": "pixels", "%": "% of the length that each scan states"}


def _check_ascending(radii: Sequence[float]) -> None:
    if any(b <= a for a, b in pairwise(radii)):
        raise ValueError(f"radii must ascend, found {list(radii)}")


def factor_of(unit: Unit, scale: float | None, spacing: float | None = None) -> float:
    """Returns what a distance of coordinates is multiplied by to be in a unit.

    That is `spacing`, what a picture's pixel measures in the unit, 1 where none is stated; and for
    "%" 100 over `scale`, the scan's own length in the unit of its coordinates, NaN where no
    positive length is stated.
    """
    if unit != "%":
        return spacing or 1.0
    return 100.0 / scale if scale is not None and scale > 0 else float("nan")


class LengthSettings(Settings):
    """A length that each scan has by its own references, in which errors are told, too."""

    name: str = Field(min_length=1, description='what it is, such as "disc diameters"')
    between: tuple[str, str] = Field(description="two landmarks, whose reference distance it is of")
    times: Distance = Field(1.0, description="what their distance is multiplied by")
    radii: tuple[Distance, ...] = Field(
        (0.125, 0.25, 0.5, 1.0),
        min_length=1,
        description="radii of the success detection rate, in this length, in ascending order",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.between[0] == self.between[1]:
            raise ValueError(f"between is {list(self.between)}, expected two landmarks")
        _check_ascending(self.radii)
        return self


class EvaluateSettings(Settings):
    """What the evaluation measures and how its tables look; distances are in the study's unit."""

    radii: tuple[Distance, ...] = Field(
        (0.25, 0.5, 1.0, 2.0),
        min_length=1,
        description="radii of the success detection rate, in the study's unit, in ascending order",
    )
    large_error: Distance = Field(
        2.0,
        description="a scan whose mean error exceeds this, in the study's unit, is listed as a "
        "failure",
    )
    length: LengthSettings | None = Field(
        None, description="a length of each scan, in which errors are told, too; null for none"
    )
    columns: dict[str, str] = Field(
        {}, description="column titles of Table 1: landmark label to printed name"
    )
    published: Literal["wang2020", "stebani2023", "fundus"] | None = Field(
        None,
        description="published figures to compare with: wang2020, a table in mm matched by the "
        "printed names; stebani2023, means of errors (mm) and overlaps; or fundus, mean errors "
        "(px) of fovea and optic_disc in other photographs; null for none",
    )
    bootstrap: int = Field(
        2000, ge=100, le=100_000, description="resamples of the interval of the mean"
    )
    table_landmarks_limit: int = Field(
        12,
        ge=1,
        description="with more landmarks, tables have no column for each landmark, and Table 1 has "
        "summary columns for each scan",
    )
    overlap_labels: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (),
        description="labels of the segmentations whose overlap is measured; empty for every label "
        "that is found or in the reference",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_ascending(self.radii)
        names = list(self.columns.values())
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"columns gives the same printed name to two landmarks: {twice}")
        return self

    def printed_name(self, label: str) -> str:
        """Returns the column title of a landmark: its label unless `columns` names another."""
        return self.columns.get(label, label)
