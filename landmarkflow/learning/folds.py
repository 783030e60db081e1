"""Networks by folds: their names, and which of the scans learned from each of them never sees."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

# A scan held back from every network, and one that every network learns from.
VALIDATION, ALWAYS = -1, 0
# Fewer are all learned from: what is left would teach too little.
FEWEST_TO_HOLD_BACK = 5


@dataclass(frozen=True, eq=False)
class Folded:
    """A scan that is learned from.

    Attributes:
        scan: its id.
        fold: the fold in which it is held back, from 1 on; `ALWAYS` or `VALIDATION`.
    """

    scan: str
    fold: int


Example = TypeVar("Example", bound=Folded)


def networks(folds: int) -> tuple[str, ...]:
    """Names of the networks of a run: one, or one for each fold, which never sees that fold."""
    return tuple(f"fold-{fold + 1}" for fold in range(folds)) if folds else ("all",)


def fold_of(network: str, folds: int) -> int:
    """The fold that a network never sees, from 1 on; 0 without folds."""
    return networks(folds).index(network) + 1 if folds else 0


def learned_in(scans: Iterable[Example], fold: int) -> list[Example]:
    """Those that a fold's network learns from; 0 is that of no fold."""
    return [e for e in scans if e.fold != VALIDATION and (not fold or e.fold != fold)]


def held_back_in(scans: Iterable[Example], fold: int) -> list[Example]:
    """Those that a fold's network never sees."""
    return [e for e in scans if e.fold == VALIDATION or (fold and e.fold == fold)]


def with_held_back(
    scans: tuple[Example, ...], share: float, seed: int, *, apart_from: str = ""
) -> tuple[Example, ...]:
    """The scans with a share of them held back, where none is and none is in a fold.

    Args:
        scans: that are learned from.
        share: of them, 0 for none.
        seed: by which they are drawn.
        apart_from: id of a scan that is learned from in any case.
    """
    free = [e.scan for e in scans if e.scan != apart_from]
    if any(e.fold for e in scans) or len(free) < FEWEST_TO_HOLD_BACK or share == 0:
        return scans
    count = max(1, round(share * len(free)))
    chosen = np.random.default_rng([seed, count]).permutation(len(free))[:count]
    names = {free[place] for place in chosen}
    return tuple(replace(e, fold=VALIDATION) if e.scan in names else e for e in scans)


def never_seen_by(
    scans: Iterable[Folded], trained: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """For each scan that is learned from, the networks that never saw it.

    Args:
        scans: the scans.
        trained: what was written of each training, `write_training`.
    """
    return {
        one.scan: [facts["network"] for facts in trained if one.scan in facts["held_back"]]
        for one in scans
    }
