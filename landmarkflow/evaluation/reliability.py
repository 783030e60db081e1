"""Whether a landmark's radius keeps its promise, and whether flags catch what went wrong."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from landmarkflow.evaluation.errors import main_errors


def reliability(
    errors: pd.DataFrame, flagged: Collection[str], large_error: float
) -> dict[str, Any]:
    """Compares the main stage's errors with what was said of them without a reference.

    Args:
        errors: The error table.
        flagged: Scans that a stage failed, refused or found doubtful.
        large_error: Above it an error is large.

    Returns:
        n (landmarks that have a radius and a reference), within_radius_percent (the share of them
        whose error is at most their radius; 90 is promised), mean_radius, rank_correlation
        (Spearman's, of radius and error: 1 where the radius ranks the errors), flagged_scans (that
        were evaluated) and unflagged_large (landmarks with a large error in the other scans). NaN
        where there is nothing to compute a figure from.
    """
    main = main_errors(errors)
    known = main[["error", "radius"]].dropna()
    in_flagged = main["scan"].isin(list(flagged))
    varied = bool((known.nunique() > 1).all())
    return {
        "n": len(known),
        "within_radius_percent": float(100 * (known["error"] <= known["radius"]).mean()),
        "mean_radius": float(known["radius"].mean()),
        "rank_correlation": float(np.corrcoef(known.rank().T)[0, 1]) if varied else np.nan,
        "flagged_scans": int(main.loc[in_flagged, "scan"].nunique()),
        "unflagged_large": int(((main["error"] > large_error) & ~in_flagged).sum()),
    }
