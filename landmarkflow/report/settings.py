"""The settings of pictures and pages."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from landmarkflow.core.settings import Settings

Percentile = Annotated[float, Field(ge=0, le=100)]


class ReportSettings(Settings):
    """How the pictures of the scans look."""

    window: float = Field(
        24.0,
        gt=0,
        description="side of each slice around a landmark, in mm; a picture is shown whole",
    )
    rows_limit: int = Field(
        12, ge=1, description="with more landmarks, a picture shows a selection of them"
    )
    selected_rows: int = Field(6, ge=1, description="landmarks in such a selection")
    worst_rows: int = Field(
        4, ge=0, description="how many of the selected are the worst, where a reference exists"
    )
    intensity: tuple[float, float] | None = Field(
        None, description="values shown black and white; null takes them from the percentiles"
    )
    percentiles: tuple[Percentile, Percentile] = Field(
        (0.5, 99.7), description="percentiles of the shown slices that are black and white"
    )
    dpi: int = Field(110, ge=50, le=600, description="pixels per inch of the pictures")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.intensity is not None and self.intensity[0] >= self.intensity[1]:
            raise ValueError(f"intensity must ascend, found {list(self.intensity)}")
        if self.percentiles[0] >= self.percentiles[1]:
            raise ValueError(f"percentiles must ascend, found {list(self.percentiles)}")
        if self.worst_rows > self.selected_rows:
            raise ValueError(
                f"worst_rows is {self.worst_rows}, expected at most selected_rows = "
                f"{self.selected_rows}"
            )
        return self
