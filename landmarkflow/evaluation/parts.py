"""Errors of parts of a study, its groups, and errors in a length that each scan has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.errors import ScanPoints
from landmarkflow.evaluation.settings import EvaluateSettings, LengthSettings
from landmarkflow.evaluation.summary import stage_data, summarise

# Of errors.csv: the error in the length of `evaluate.length`, where the study states one.
LENGTHS = "lengths"


def with_lengths(
    errors: pd.DataFrame, scans: Sequence[ScanPoints], length: LengthSettings | None
) -> pd.DataFrame:
    """Returns the error table with a column of errors in a length, where one is stated.

    The length of a scan is `times` the distance between its own references of two landmarks. Where
    one of these is missing the error in it is empty.

    Args:
        errors: The error table, in the study's unit.
        scans: Detected points and references.
        length: Which length; None leaves the table as it is.

    Raises:
        InputError: A landmark between which it lies is none of the references'.
    """
    if length is None:
        return errors
    lengths: dict[str, float] = {}
    for scan in scans:
        if scan.reference is not None:
            try:
                one, other = scan.reference.select(length.between).positions
            except InputError as error:
                raise InputError(f"config: `evaluate.length.between`: {error}") from None
            lengths[scan.scan] = length.times * scan.factor * float(np.linalg.norm(one - other))
    # Two landmarks in one place have no length between them.
    of_row = errors["scan"].map(lengths).astype("float64").replace(0.0, np.nan)
    return errors.assign(**{LENGTHS: errors["error"] / of_row})


def by_group(
    errors: pd.DataFrame, groups: Mapping[str, str], settings: EvaluateSettings, seed: int
) -> pd.DataFrame:
    """Returns the statistics of every group of scans, the groups by name.

    Args:
        errors: The error table.
        groups: Of each scan; one without a group is in none.
        settings: Radii and resamples.
        seed: Seed of the bootstrap.

    Returns:
        The columns group, scans, and those of `summarise`.
    """
    tables = []
    for group in sorted(set(filter(None, groups.values()))):
        part = errors[errors["scan"].map(groups) == group]
        table = summarise(part, settings, seed)
        table.insert(0, "group", group)
        table.insert(1, "scans", part["scan"].nunique())
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def in_lengths(errors: pd.DataFrame, settings: EvaluateSettings, seed: int) -> pd.DataFrame:
    """Returns the statistics of the errors in the settings' length, within its own radii.

    A landmark that was not found counts as not within; one of a scan without the length does not
    count.
    """
    assert settings.length is not None
    measured = errors[errors["error"].isna() | errors[LENGTHS].notna()]
    told = settings.model_copy(update={"radii": settings.length.radii})
    return summarise(measured.assign(error=measured[LENGTHS]), told, seed)


def group_data(table: pd.DataFrame, radii: Sequence[float]) -> dict[str, Any]:
    """Returns what `by_group` returned as data for JSON: by group, stage and landmark."""
    return {
        str(group): {"scans": int(part["scans"].iloc[0]), "stages": stage_data(part, radii)}
        for group, part in table.groupby("group", sort=False)
    }
