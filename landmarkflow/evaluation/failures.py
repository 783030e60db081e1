"""Which scans were refused, failed or are doubtful, and why."""

from collections.abc import Sequence

import pandas as pd

from landmarkflow.core.records import Record
from landmarkflow.evaluation.errors import main_errors
from landmarkflow.evaluation.settings import EvaluateSettings

COLUMNS = ("scan", "stage", "status", "reason")
LARGE_ERROR = "large error"
STAGE_HERE = "evaluate"
NO_REASON = "no reason stated"


def failure_table(
    scans: Sequence[str],
    records: Sequence[Record],
    errors: pd.DataFrame,
    settings: EvaluateSettings,
) -> pd.DataFrame:
    """Returns the scans that did not go well, in the order of the sheet.

    A scan has one row for its first stage that failed or refused it (its first doubtful stage
    where none did), and one more if its mean error is large. Landmarks missing in a scan that no
    stage failed make a row too: "failed" when all are missing, "doubtful" when some are.

    Args:
        scans: The scans of the sheet.
        records: The stages' records; those of one scan in the order of the stages.
        errors: The error table.
        settings: What counts as a large error.

    Returns:
        The columns `COLUMNS`.
    """
    main = main_errors(errors)
    rows: list[tuple[str, str, str, str]] = []
    for scan in scans:
        stopped = first_failure(records, scan)
        if stopped is not None:
            rows.append((scan, stopped.stage, stopped.status, stopped.reason or NO_REASON))
        found = main[main["scan"] == scan]
        missing = found[found["error_mm"].isna()]
        if len(missing) and (stopped is None or stopped.status == "doubtful"):
            reason = (
                f"{len(missing)} of {len(found)} landmarks missing: {missing['reason'].iloc[0]}"
            )
            status = "failed" if len(missing) == len(found) else "doubtful"
            rows.append((scan, STAGE_HERE, status, reason))
        mean = float(found["error_mm"].mean())
        if mean > settings.large_error_mm:
            reason = (
                f"mean error {mean:.2f} mm over {len(found) - len(missing)} landmarks, "
                f"above {settings.large_error_mm:g} mm"
            )
            rows.append((scan, STAGE_HERE, LARGE_ERROR, reason))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def first_failure(records: Sequence[Record], scan: str) -> Record | None:
    """Returns the scan's first record that failed or refused it, else its first doubtful one."""
    own = [record for record in records if record.scan == scan]
    stopped = [record for record in own if record.status in ("failed", "refused")]
    doubtful = [record for record in own if record.status == "doubtful"]
    return next(iter(stopped + doubtful), None)
