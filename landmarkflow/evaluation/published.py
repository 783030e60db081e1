"""Published results to compare with."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.errors import main_errors
from landmarkflow.evaluation.results import ALL_LABELS
from landmarkflow.evaluation.settings import EvaluateSettings, Unit
from landmarkflow.evaluation.summary import statistics, within
from landmarkflow.evaluation.tables import (
    Printed,
    frame_csv,
    mean_and_sd,
    number,
    print_scans,
    scans_csv,
)

RADIUS = 1.0
FIGURES = ("n", "mean", "sd", "median", within(RADIUS))
BOTH_SIDES = (*FIGURES, *(f"published_{name}" for name in FIGURES))


@dataclass(frozen=True, eq=False)
class PublishedTable:
    """A published table of errors.

    Attributes:
        source: Where the table stands.
        note: How its printed summary relates to the recomputed one.
        errors: Distances, a row for each scan; columns are the landmarks' printed names.
        unit: Of these distances.
    """

    source: str
    note: str
    errors: pd.DataFrame
    unit: Unit = "mm"


@dataclass(frozen=True, eq=False)
class PublishedFigures:
    """Published means, where single errors are not known.

    Attributes:
        source: Where they stand.
        note: What they are.
        voxel_mm: Edge of their voxels.
        sets: Columns are their sets of scans; rows are `MEASURES`.
        unit: Of the study that they are laid beside.
    """

    source: str
    note: str
    voxel_mm: float
    sets: pd.DataFrame
    unit: Unit = "mm"


@dataclass(frozen=True, eq=False)
class PublishedMeans:
    """Published mean errors of single landmarks.

    Attributes:
        source: Where they stand.
        note: What they are.
        unit: Of the errors.
        sets: Columns are works and their sets of scans; rows are the landmarks' printed names. NaN
            where a work does not tell one.
    """

    source: str
    note: str
    unit: Unit
    sets: pd.DataFrame


# What is laid beside published figures: its name in the overlap table, or none, and its unit.
MEASURES = {
    "landmark error, mm": "",
    "landmark error, voxels": "",
    "Dice": "dice",
    "IoU": "iou",
    "average Hausdorff of all voxels, voxels": "all_voxels",
}
_STEBANI_2023 = {
    "A (43 cadaveric)": (3.3, 0.97, 0.94, 0.065),
    "B (9 clinical)": (5.2, 0.94, 0.89, 0.14),
}
_STEBANI_VOXEL_MM = 0.0988

# Mean errors of the fovea and of the optic disc's centre, pixels.
_FUNDUS = {
    "HBA-U-Net, IDRiD": (32.1, 20.5),
    "HBA-U-Net, REFUGE": (32.5, np.nan),
    "HBA-U-Net, ADAM": (25.4, np.nan),
    "ZIAN, REFUGE, coarse": (9.50, np.nan),
    "ZIAN, REFUGE, + zoom": (9.07, np.nan),
    "ADAM challenge, best": (18.55, np.nan),
}

_WANG_2020 = """CENTER TOP WINDOW
0.877104 0.702200 0.862706
0.281045 1.332490 0.648094
0.490064 0.564314 0.839740
0.695775 0.730758 0.554273
0.720785 0.720785 0.652519
0.565006 0.370034 1.117346
0.190016 0.309536 1.348332
0.488173 0.776744 0.309536
0.488857 0.348377 0.604708
0.385027 0.198213 0.494694
0.653242 1.632196 0.263451
0.837414 1.147350 1.064709
0.868734 1.002242 1.535283
0.673684 0.264812 0.718197
0.718201 1.037524 0.878216
0.722738 0.674657 0.812038
0.733301 0.797897 0.541678
0.536202 1.233090 0.335046
0.333654 0.549499 1.433840
0.389453 0.391017 0.880967
"""

PUBLISHED: dict[str, PublishedTable | PublishedFigures | PublishedMeans] = {
    "wang2020": PublishedTable(
        source="Wang et al. 2020, Table 1",
        note="The paper prints 0.58±0.19, 0.73±0.39 and 0.79±0.36 mm: its means and deviations "
        "are cut off after two decimals, and its deviations are divided by n - 1.",
        errors=pd.read_csv(io.StringIO(_WANG_2020), sep=" "),
    ),
    "stebani2023": PublishedFigures(
        source="Stebani et al. 2023, abstract",
        note="The paper states landmark errors in voxels of 0.0988 mm. Its average Hausdorff "
        "distance, as far as Dice and distance fit each other, runs over all voxels, interior "
        "included; that of either side is in its own voxels.",
        voxel_mm=_STEBANI_VOXEL_MM,
        sets=pd.DataFrame(
            {
                name: [_STEBANI_VOXEL_MM * landmark, landmark, *overlaps]
                for name, (landmark, *overlaps) in _STEBANI_2023.items()
            },
            index=list(MEASURES),
        ),
    ),
    "fundus": PublishedMeans(
        source="Tang et al. 2021, abstract (HBA-U-Net); the log of the public code of Lei et al. "
        "2022 (ZIAN); the ADAM challenge",
        note="Other data: they learned from other photographs, and more of them, and tell errors "
        "in pixels of their own ones, those of IDRiD 4288 and those of REFUGE 2056 to 2124 wide. "
        "At which size HBA-U-Net counts pixels is not said. Nothing is comparable with a study of "
        "simulated photographs.",
        unit="px",
        sets=pd.DataFrame(_FUNDUS, index=["fovea", "optic_disc"]),
    ),
}


def beside_published(
    errors: pd.DataFrame, published: PublishedTable, settings: EvaluateSettings
) -> pd.DataFrame:
    """Sets our errors beside a published table, landmark by landmark.

    Args:
        errors: The error table, in the unit of the published one.
        published: The other table.
        settings: Which landmark has which printed name.

    Returns:
        landmark, column (its printed name) and `BOTH_SIDES`, recomputed from single errors. A
        landmark without a published counterpart has a published n of 0 and no other figure.

    Raises:
        InputError: No printed name is one of the published table's.
    """
    rows: list[dict[str, Any]] = []
    for label, ours in main_errors(errors).groupby("landmark", sort=False)["error"]:
        name = settings.printed_name(label)
        theirs = published.errors.get(name, pd.Series(dtype="float64"))
        figures = _figures(ours, "") | _figures(theirs, "published_")
        rows.append({"landmark": label, "column": name, **figures})
    names = [row["column"] for row in rows]
    if names and not set(names) & set(published.errors):
        raise InputError(
            f"no landmark has a published counterpart: the columns are {', '.join(names)}, "
            f"expected at least one of {', '.join(published.errors)} (setting columns)"
        )
    return pd.DataFrame(rows, columns=["landmark", "column", *BOTH_SIDES])


def beside_figures(
    errors: pd.DataFrame, overlap: pd.DataFrame | None, published: PublishedFigures
) -> pd.DataFrame:
    """Sets a run's means beside published ones.

    Args:
        errors: The error table, mm.
        overlap: The overlap table, None where no scan has a reference segmentation.
        published: The other means.

    Returns:
        figure, n, mean and sd (divided by n) of ours, then a column for each published set.
        Landmark errors in voxels are in those of the published scans. Dice and what follows are
        of all labels as one.
    """
    found = main_errors(errors)["error"].to_numpy(np.float64)
    rows = []
    for figure, column in MEASURES.items():
        values = found / (published.voxel_mm if figure.endswith("voxels") else 1.0)
        if column:
            whole = overlap[overlap["label"] == ALL_LABELS] if overlap is not None else None
            values = np.zeros(0) if whole is None else whole[column].to_numpy(np.float64)
        rows.append(_beside(figure, values, published.sets.loc[figure]))
    return pd.DataFrame(rows)


def beside_means(
    errors: pd.DataFrame, published: PublishedMeans, settings: EvaluateSettings
) -> pd.DataFrame:
    """Sets a run's means beside published ones, landmark by landmark.

    Args:
        errors: The error table, in the unit of the published means.
        published: The other means.
        settings: Which landmark has which printed name.

    Returns:
        figure, n, mean and sd (divided by n) of ours, then a column for each published set, NaN
        where it does not tell the landmark.
    """
    rows = []
    for label, ours in main_errors(errors).groupby("landmark", sort=False)["error"]:
        theirs = published.sets.reindex([settings.printed_name(label)]).iloc[0]
        rows.append(_beside(f"{label}, {published.unit}", ours.to_numpy(np.float64), theirs))
    return pd.DataFrame(rows, columns=["figure", "n", "mean", "sd", *published.sets])


def _beside(figure: str, values: NDArray[np.float64], theirs: pd.Series) -> dict[str, Any]:
    """Returns a row: the mean of our values, then what each published set has."""
    own = statistics(values, ())
    return {"figure": figure, **{name: own[name] for name in ("n", "mean", "sd")}, **theirs}


def print_figures(table: pd.DataFrame) -> Printed:
    """Returns what `beside_figures` or `beside_means` returned as texts."""
    sets = list(table.columns[4:])
    header = ["Figure", "n", "Ours, mean ± sd", *sets]
    rows = [
        [row["figure"], number(row["n"], 0), mean_and_sd(row, 3, " ± ")]
        + [number(row[name], 3) for name in sets]
        for row in table.to_dict("records")
    ]
    return Printed("Ours beside the published figures (sd divided by n).", header, rows)


def published_markdown(table: pd.DataFrame, published: PublishedTable) -> str:
    """Returns both sides and the whole published table as Markdown."""
    unit = published.unit
    source = f"{published.source}, {unit}. {published.note}"
    theirs = print_scans(published.errors, source, 6, unit)
    return f"{print_sides(table, unit).markdown()}\n{theirs.markdown()}"


def print_sides(table: pd.DataFrame, unit: Unit) -> Printed:
    """Returns what `beside_published` returned as texts: names, our figures, published ones."""
    header, rows = ["Landmark", "Column"], []
    for side in ("ours", "published"):
        header += [f"n {side}", f"mean ± sd, {unit}, {side}", f"median, {unit}, {side}"]
        header.append(f"within {RADIUS:g} {unit}, %, {side}")
    for row in table.to_dict("records"):
        cells = [row["landmark"], row["column"]]
        for side in ("", "published_"):
            figures = {name: row[side + name] for name in FIGURES}
            n, _, _, median, rate = figures.values()
            mean = mean_and_sd(figures, 2)
            cells += [number(n, 0), mean, number(median, 2), number(rate if n else np.nan, 0)]
        rows.append(cells)
    said = "Ours beside the published figures, both recomputed (sd divided by n)."
    return Printed(said, header, rows)


def published_texts(
    name: str, errors: pd.DataFrame, overlap: pd.DataFrame | None, settings: EvaluateSettings
) -> dict[str, str]:
    """Returns published.csv, .md and published_table.csv of a published table, by these names.

    Raises:
        InputError: No printed name is one of the published table's.
    """
    other = PUBLISHED[name]
    if not isinstance(other, PublishedTable):
        if isinstance(other, PublishedMeans):
            compared = beside_means(errors, other, settings)
        else:
            compared = beside_figures(errors, overlap, other)
        theirs = other.sets.rename_axis("figure").reset_index()
        said = f"{print_figures(compared).markdown()}\n{other.source}. {other.note}\n"
        texts = (frame_csv(compared), said, frame_csv(theirs))
    else:
        compared = beside_published(errors, other, settings)
        said = published_markdown(compared, other)
        texts = (frame_csv(compared), said, scans_csv(other.errors, 6))
    return dict(zip(("published.csv", "published.md", "published_table.csv"), texts, strict=True))


def _figures(errors: "pd.Series[float]", prefix: str) -> dict[str, float]:
    found = statistics(errors.to_numpy(np.float64), (RADIUS,))
    return {prefix + name: found[name] for name in FIGURES}
