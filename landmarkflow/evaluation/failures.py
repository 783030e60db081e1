"""Which scans were refused, failed or are doubtful, and why."""

from collections.abc import Mapping, Sequence

import pandas as pd

from landmarkflow.core.records import Step
from landmarkflow.evaluation.errors import main_errors
from landmarkflow.evaluation.settings import Unit

COLUMNS = ("scan", "stage", "status", "reason")
LARGE_ERROR = "large error"
STAGE_HERE = "evaluate"
STOPPED = ("failed", "refused")


def failure_table(
    chains: Mapping[str, Sequence[Step]], errors: pd.DataFrame, large_error: float, unit: Unit
) -> pd.DataFrame:
    """Returns the scans that did not go well, in the order of the sheet.

    Args:
        chains: What the stages said of each scan, in their order; the scans as in the sheet.
        errors: The error table.
        large_error: Above it a scan's mean error is listed.
        unit: The study's unit.

    Returns:
        The columns `COLUMNS`. A scan has one row for the first stage that failed or refused it;
        where none did, one for each doubtful stage and one for its missing landmarks: "failed"
        when all are missing, "doubtful" when some are. It has one more if its mean error is large.
        What left a scan without a result stands first.
    """
    main = main_errors(errors)
    rows: list[tuple[str, str, str, str]] = []
    for scan, chain in chains.items():
        found = main[main["scan"] == scan]
        missing = found[found["error"].isna()]
        count, mean = len(found) - len(missing), float(found["error"].mean())
        stopped = first_stop(chain)
        # What is read twice, as the scan by the references and by the method, is said once.
        doubts = [step for step in dict.fromkeys(chain) if step.status == "doubtful"]
        steps = [stopped] if stopped else doubts
        own = [(scan, step.stage, str(step.status), step.reason or "") for step in steps]
        if len(missing) and stopped is None:
            said = f"{len(missing)} of {len(found)} landmarks missing: {missing['reason'].iloc[0]}"
            own.append((scan, STAGE_HERE, "doubtful" if count else "failed", said))
        if mean > large_error:
            said = f"mean error {mean:.2f} {unit} over {count} landmarks, "
            said += f"above {large_error:g} {unit}"
            own.append((scan, STAGE_HERE, LARGE_ERROR, said))
        rows.extend(sorted(own, key=lambda row: row[2] not in STOPPED))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def first_stop(chain: Sequence[Step]) -> Step | None:
    """Returns what the first stage that failed or refused a scan said, None where none did."""
    return next((step for step in chain if step.status in STOPPED), None)
