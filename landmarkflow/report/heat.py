"""Every landmark of every scan as a cell whose colour says how far off, or how unsure, it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from landmarkflow.evaluation.errors import main_errors
from landmarkflow.evaluation.results import Run

# From light to dark, which everybody can tell apart (ColorBrewer's YlOrBr).
SHADES = ("#ffffe5", "#fff7bc", "#fee391", "#fec44f", "#fe9929", "#ec7014", "#cc4c02", "#8c2d04")
MISSING = len(SHADES)
# Of a landmark that a scan has no reference of, and is not asked for: no colour.
UNASKED = MISSING + 1
# The shades end where errors or radii are so many times their median.
STEPS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Heat:
    """The cells of a map of scans and landmarks.

    Attributes:
        of: what the colours show, errors or radii, with the unit.
        landmarks: names of the columns.
        rows: of each scan its name, its anchor, and for each landmark the shade and what it says.
        bounds: largest value of each shade but the last.
    """

    of: str
    landmarks: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[tuple[int, str], ...]], ...]
    bounds: tuple[str, ...]


def heat_of(
    run: Run, points: pd.DataFrame, scans: Sequence[str], anchors: Mapping[str, str]
) -> Heat | None:
    """The map of a run, None where it has no landmark with an error or a radius.

    Args:
        run: as it was evaluated.
        points: columns scan, landmark, radius; radii in the study's unit.
        scans: in the order of the rows.
        anchors: where each scan's picture stands on the page.
    """
    landmarks = tuple(dict.fromkeys(points["landmark"]))
    errors = main_errors(run.errors).set_index(["scan", "landmark"])["error"].to_dict()
    radii = points.set_index(["scan", "landmark"])["radius"].to_dict()
    # A scan without references shows its radii, which are distances, too.
    measured = {scan for scan, _ in errors}
    values = errors | {key: radius for key, radius in radii.items() if key[0] not in measured}
    known = np.array([value for value in values.values() if np.isfinite(value)])
    if not known.size:
        return None
    bounds = [step * float(np.median(known)) for step in STEPS]
    rows = []
    for scan in scans:
        cells = []
        for landmark in landmarks:
            asked, value = (scan, landmark) in values, values.get((scan, landmark), np.nan)
            said = [f"{scan} {landmark}:"]
            if np.isnan(value):
                said.append("missing" if asked else "no reference,")
            elif scan in measured:
                said.append(f"{value:.2f} {run.unit} off,")
            if np.isfinite(radius := radii.get((scan, landmark), np.nan)):
                said.append(f"radius {radius:.2f} {run.unit}")
            shade = int(np.searchsorted(bounds, value)) if np.isfinite(value) else MISSING
            shade = shade if asked else UNASKED
            cells.append((shade, " ".join(said).rstrip(",")))
        rows.append((scan, anchors.get(scan, ""), tuple(cells)))
    of = f"{'distance to the reference' if measured else 'radius'}, {run.unit}"
    return Heat(of, landmarks, tuple(rows), tuple(f"{bound:.2f}" for bound in bounds))
