"""Tables of the method: alignment beside the paper's Table 1, coverage, saliency."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.files import table_text, write_text
from landmarkflow.engine.batch import Batch
from landmarkflow.methods.salient.pairs import Coverage, mean_and_error

Array = NDArray[np.float64]

ALIGNMENTS = {
    "none": "None",
    "left_right": "Left-Right (LR)",
    "intensity": "LR + intensity (elastix)",
    "keypoints": "Keypoints (ORB, RANSAC)",
    "salient": "Salient landmarks",
}
OVER = {"all": "all", "aligned": "aligned", "right": "both right"}
# Droste et al. 2020, Table 1: mean errors of CSP, of LV or cerebellum, and of the head's centre.
PUBLISHED: dict[tuple[str, str], tuple[float, float, float]] = {
    ("TV", "none"): (39.3, 21.9, 15.1),
    ("TV", "left_right"): (16.9, 8.9, 15.2),
    ("TV", "intensity"): (15.5, 8.2, 13.9),
    ("TV", "salient"): (9.8, 4.1, 7.1),
    ("TC", "none"): (58.1, 24.8, 28.5),
    ("TC", "left_right"): (28.4, 12.0, 24.8),
    ("TC", "intensity"): (27.2, 11.6, 24.4),
    ("TC", "salient"): (10.9, 5.7, 6.7),
}
# Of the paper's landmarks, of both planes together, and its shares of aligned pictures, percent.
PUBLISHED_PRECISION, PUBLISHED_RECALL = 88.0, 77.1
PUBLISHED_RIGHT = {"TV": 62.0, "TC": 54.0}


@dataclass(frozen=True)
class Row:
    """One figure of the alignment table.

    Attributes:
        group: of the pictures.
        alignment: a key of `ALIGNMENTS`.
        over: a key of `OVER`; `all`: a pair that is not aligned is measured as it lies.
        landmark: whose distance is measured.
        pairs: number of pairs with a reference in both.
        aligned_pairs: of them, those with an alignment.
        mean: percent of the target's scale.
        standard_error: of the mean, over pairs; they share pictures, so that it is too small.
        published: the paper's mean, where it has one; its pairs are those that are right.
    """

    group: str
    alignment: str
    over: str
    landmark: str
    pairs: int
    aligned_pairs: int
    mean: float
    standard_error: float
    published: float


def rows_of(
    key: tuple[str, str, str],
    landmarks: Sequence[str],
    errors: Array,
    aligned: NDArray[np.bool_],
) -> list[Row]:
    """A row for each landmark.

    Args:
        key: group, alignment, and which pairs.
        landmarks: names.
        errors: (pairs, landmarks).
        aligned: (pairs,) whether a pair has an alignment.
    """
    group, alignment, over = key
    known = PUBLISHED.get((group, alignment), ()) if len(landmarks) == 3 else ()
    # The paper aligns by landmarks only pairs whose landmarks are right.
    published = known if (over == "right") == (alignment == "salient") else ()
    rows = []
    for column, name in enumerate(landmarks):
        mean, error, count = mean_and_error(errors[:, column])
        there = int((aligned & ~np.isnan(errors[:, column])).sum())
        stated = published[column] if published else math.nan
        rows.append(Row(group, alignment, over, name, count, there, mean, error, stated))
    return rows


def shown(value: float, digits: int = 1) -> str:
    """A figure as it is printed; a dash for none."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def as_csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as CSV; figures have four digits, and what is unknown is empty."""
    cells = (
        [("" if math.isnan(v) else f"{v:.4f}") if isinstance(v, float) else v for v in row]
        for row in rows
    )
    return table_text([header, *cells])


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_latex(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as LaTeX with booktabs."""

    def line(cells: Sequence[str]) -> str:
        escaped = (cell.replace("_", r"\_").replace("%", r"\%") for cell in cells)
        return " & ".join(escaped).replace("±", r"$\pm$").replace("–", "--") + r" \\"

    body = [line(header), r"\midrule", *map(line, rows)]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{'l' * len(header)}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def write_alignment(batch: Batch, rows: Sequence[Row]) -> None:
    """The alignment table as CSV, Markdown and LaTeX."""
    names = [field.name for field in fields(Row)]
    write_text(batch.path("alignment"), as_csv(names, [list(asdict(row).values()) for row in rows]))
    header = ("group", "alignment", "pairs", "over", "landmark 1", "landmark 2", "landmark 3")
    printed = []
    for key in dict.fromkeys((row.group, row.alignment, row.over) for row in rows):
        own = [row for row in rows if (row.group, row.alignment, row.over) == key]
        cells = [
            f"{row.landmark}: {shown(row.mean)} ± {shown(row.standard_error)}"
            + ("" if math.isnan(row.published) else f" ({row.published:.1f})")
            for row in own
        ]
        cells += ["–"] * (3 - len(cells))
        printed.append([key[0], ALIGNMENTS[key[1]], str(own[0].pairs), OVER[key[2]], *cells[:3]])
    notes = (
        "Mean distance of reference landmarks after alignment ± standard error over pairs, percent "
        "of the target's stated length; in brackets the mean of Droste et al. 2020, Table 1.\n"
        "Over all pairs: what is not aligned is measured as it lies. Aligned: both pictures have "
        "the landmarks. Both right: these lie near their references in both, as in the paper.\n\n"
    )
    write_text(batch.path("alignment_markdown"), notes + as_markdown(header, printed))
    write_text(batch.path("alignment_latex"), as_latex(header, printed))


def write_coverage(batch: Batch, found: Mapping[str, Coverage]) -> None:
    """Precision, recall and share of aligned pictures of each group."""
    names = ["group", *(field.name for field in fields(Coverage))]
    rows = [[group, *asdict(one).values()] for group, one in found.items()]
    write_text(batch.path("coverage"), as_csv(names, rows))
    printed = [
        [
            group,
            str(one.pictures),
            *(
                f"{shown(value)} %" + (f" ({stated:.1f} %)" if stated else "")
                for value, stated in (
                    (one.precision, PUBLISHED_PRECISION if group in PUBLISHED_RIGHT else 0.0),
                    (one.recall, PUBLISHED_RECALL if group in PUBLISHED_RIGHT else 0.0),
                    (one.aligned, 0.0),
                    (one.right, PUBLISHED_RIGHT.get(group, 0.0)),
                )
            ),
        ]
        for group, one in found.items()
    ]
    header = ("group", "pictures", "precision", "recall", "aligned", "aligned and right")
    notes = (
        "In brackets: Droste et al. 2020, whose precision and recall are of both planes together, "
        "and whose pictures are aligned where all landmarks are right.\n\n"
    )
    write_text(batch.path("coverage_markdown"), notes + as_markdown(header, printed))


def write_saliency(batch: Batch, rows: Sequence[Sequence[object]], header: Sequence[str]) -> None:
    """Metrics of maps: every picture as CSV, means of each predictor as Markdown and LaTeX."""
    write_text(batch.path("metrics"), as_csv(header, rows))
    printed = []
    for predictor in dict.fromkeys(str(row[1]) for row in rows):
        own = np.array([row[2:] for row in rows if row[1] == predictor], np.float64)
        means = [
            float(np.nanmean(column)) if (~np.isnan(column)).any() else math.nan for column in own.T
        ]
        printed.append([predictor, str(len(own)), *(shown(value, 3) for value in means)])
    titles = ("map", "pictures", "CC", "SIM", "KLD", "NSS", "AUC (Judd)", "shuffled AUC")
    write_text(batch.path("metrics_markdown"), as_markdown(titles, printed))
    write_text(batch.path("metrics_latex"), as_latex(titles, printed))
