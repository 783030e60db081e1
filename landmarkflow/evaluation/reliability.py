"""Whether a landmark's radius keeps its promise, and whether flags catch what went wrong."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from landmarkflow.evaluation.errors import main_errors


@dataclass(frozen=True)
class Reliability:
    """What the radii and flags are worth; None where there is nothing to compute it from.

    Attributes:
        n: Landmarks that have a radius and a reference.
        within_radius_percent: Share of them whose error is at most their radius; 90 is promised.
        mean_radius: Their mean radius.
        rank_correlation: Spearman's, of radius and error: 1 where the radius ranks the errors.
        flagged_scans: Evaluated scans that a stage failed, refused or found doubtful.
        unflagged_large: Landmarks with a large error in the other scans.
    """

    n: int
    within_radius_percent: float | None
    mean_radius: float | None
    rank_correlation: float | None
    flagged_scans: int
    unflagged_large: int


def reliability(errors: pd.DataFrame, flagged: Collection[str], large_error: float) -> Reliability:
    """Compares the main stage's errors with what was said of them without a reference.

    Args:
        errors: The error table.
        flagged: Scans that a stage failed, refused or found doubtful.
        large_error: Above it an error is large.
    """
    main = main_errors(errors)
    known = main.dropna(subset=["error", "radius"])
    in_flagged = main["scan"].isin(list(flagged))
    large = (main["error"] > large_error) & ~in_flagged
    ranks = known[["error", "radius"]].rank().to_numpy(np.float64)
    varied = len(known) > 1 and bool((np.ptp(ranks, axis=0) > 0).all())
    return Reliability(
        n=len(known),
        within_radius_percent=float(100 * (known["error"] <= known["radius"]).mean())
        if len(known)
        else None,
        mean_radius=float(known["radius"].mean()) if len(known) else None,
        rank_correlation=float(np.corrcoef(ranks.T)[0, 1]) if varied else None,
        flagged_scans=int(main.loc[in_flagged, "scan"].nunique()),
        unflagged_large=int(large.sum()),
    )
