"""What can be chosen when several runs' landmarks become one list."""

from pydantic import Field

from landmarkflow.core.settings import Settings


class FuseSettings(Settings):
    """How the landmarks by several runs become one list."""

    farthest: float = Field(
        1.0,
        gt=0,
        description="distance from the runs' median, in the study's unit of length, beyond which "
        "a run's point does not count",
    )
    shared_error: float = Field(
        0.6, ge=0, le=1, description="share of a squared error that all runs have in common"
    )
