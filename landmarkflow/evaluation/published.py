"""Published results to compare with."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class PublishedTable:
    """A published table of errors.

    Attributes:
        source: Where the table stands.
        note: How its printed summary relates to the recomputed one.
        names: Printed names of the landmarks, one per column.
        errors: Euclidean distances in mm, (scans, landmarks).
    """

    source: str
    note: str
    names: tuple[str, ...]
    errors: NDArray[np.float64]


_WANG_2020 = """
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

PUBLISHED: Mapping[str, PublishedTable] = MappingProxyType(
    {
        "wang2020": PublishedTable(
            source="Wang et al. 2020, Table 1",
            note="The paper prints 0.58±0.19, 0.73±0.39 and 0.79±0.36 mm: its means and deviations "
            "are cut off after two decimals, and its deviations are divided by n - 1.",
            names=("CENTER", "TOP", "WINDOW"),
            errors=np.array(_WANG_2020.split(), dtype=np.float64).reshape(20, 3),
        )
    }
)
