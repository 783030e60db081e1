"""Whether a picture is like those learned from: its features, its map, and its landmarks.

A network says something of every picture, also of one of a kind that it never saw. What it says is
kept where scores are no larger than those of the pictures learned from, each of which is scored by
others alone: so no picture of another kind is needed to choose the limits.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing
from landmarkflow.learning.conformal import conformal_quantile
from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.maps import Seen

Array = NDArray[np.float64]
Step = tuple[str, str]

# Keeps the covariance of steps that are all alike from being singular.
TINY = 1e-6


def described(seen: Seen, frame: Frame) -> Array:
    """(d,) mean and deviation of every channel of the coarse levels, over a picture's cells."""
    found = []
    for level in seen.features[:-1]:
        _, rows, columns = level.shape
        right, down = frame.extent
        inside = level[:, : max(1, round(rows * down)), : max(1, round(columns * right))]
        flat = inside.reshape(len(level), -1).astype(np.float64)
        found += [flat.mean(axis=1), flat.std(axis=1)]
    return np.concatenate(found)


def flatness(saliency: NDArray[np.floating]) -> float:
    """Entropy of a map of sum 1: the logarithm of how many cells it is spread over."""
    shares = saliency[saliency > 0].astype(np.float64)
    return float(-(shares * np.log(shares)).sum())


def step_of(one: Array, other: Array, frame: Frame) -> Array:
    """(2,) step between two landmarks (2,), shares of the picture; its mirror image has the same.

    Along x the step counts without its sign.
    """
    x, y = (other - one) / (frame.width, frame.height)
    return np.array([abs(x), y])


def _named(names: Sequence[str], points: Array) -> dict[str, Array]:
    """Places of landmarks by their names, of which the first one counts."""
    return {name: points[names.index(name)] for name in sorted(set(names) - {""})}


def steps_between(names: Sequence[str], points: Array, frame: Frame) -> dict[Step, Array]:
    """Steps between every two named landmarks of a picture; of a name the first one counts.

    Args:
        names: of each landmark; empty for none.
        points: (n, 2) pixels.
        frame: of the picture.
    """
    first = _named(names, points)
    return {
        (one, other): step_of(first[one], first[other], frame)
        for one, other in combinations(first, 2)
    }


def moves_of(names: Sequence[str], points: Array, views: Sequence[Array]) -> dict[Step, float]:
    """How far every two named landmarks move when their picture is changed; none without views.

    It is the distance from a landmark to the nearest maximum of a changed view, root mean square
    over the views, of that of the two that moves more, as a share of the distance between both.
    In a view that lost a landmark this is 1 at most.

    Args:
        names: of each landmark; empty for none.
        points: (n, 2) pixels.
        views: maxima of each changed view, (m, 2) pixels of the picture.
    """
    first, found = _named(names, points), {}
    for one, other in combinations(first, 2) if len(views) else ():
        places = np.stack([first[one], first[other]])
        apart = max(float(np.linalg.norm(places[0] - places[1])), TINY)
        away = np.array(
            [
                np.linalg.norm(places[:, None] - maxima[None], axis=2).min(axis=1, initial=apart)
                for maxima in views
            ]
        )
        found[one, other] = float(np.sqrt((away**2).mean(axis=0)).max() / apart)
    return found


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of pictures by their features: a Gaussian with a shrunk covariance.

    Attributes:
        mean: (d,) of the features.
        spread: (d,) that features are divided by.
        precision: (d, d) inverse covariance of the divided features.
    """

    mean: Array
    spread: Array
    precision: Array

    def away(self, features: Array) -> Array:
        """(n,) Mahalanobis distances of features (n, d), in those of a mean direction."""
        offset = (features - self.mean) / self.spread
        squares = np.einsum("ni,ij,nj->n", offset, self.precision, offset)
        return np.asarray(np.sqrt(squares / features.shape[1]))


@dataclass(frozen=True, eq=False)
class Familiar:
    """What the pictures learned from are like.

    Attributes:
        kind: of these pictures.
        pictures: (n,) distance of each from the kind of others alone.
        flat: (n,) flatness of each one's map.
        steps: (m, 2) of the pictures in which both landmarks were found, by their names.
        moves: (m,) of the same pictures.
    """

    kind: Kind
    pictures: Array
    flat: Array
    steps: Mapping[Step, Array]
    moves: Mapping[Step, Array]

    def strangeness(
        self,
        picture: Array,
        flat: float,
        steps: Mapping[Step, Array],
        moves: Mapping[Step, float],
    ) -> "Strange":
        """The scores of a picture; steps that too few pictures learned from have get none.

        Args:
            picture: (d,) `described`.
            flat: flatness of its map.
            steps: between its landmarks, by their names.
            moves: of its landmarks, by their names.
        """
        return Strange(
            picture=float(self.kind.away(picture[None])[0]),
            flat=flat,
            steps={
                key: _mahalanobis(step, self.steps[key])
                for key, step in steps.items()
                if key in self.steps
            },
            moves={key: moved for key, moved in moves.items() if key in self.moves},
        )

    def limits(self, coverage: float) -> "Strange":
        """The scores that so many of further pictures of the kind learned from do not exceed.

        Of n pictures the largest score holds n of n + 1 at most: a larger coverage means that one.
        Of steps, of which fewer pictures tell, it then means that of a Gaussian where it is larger.
        """
        steps = {
            key: np.array(
                [
                    _mahalanobis(step, np.delete(known, row, axis=0))
                    for row, step in enumerate(known)
                ]
            )
            for key, known in self.steps.items()
        }
        return Strange(
            picture=_limit(self.pictures, coverage),
            flat=_limit(self.flat, coverage),
            steps={
                key: _limit(scores, coverage, _gaussian_limit(len(scores), coverage))
                for key, scores in steps.items()
            },
            moves={key: _limit(scores, coverage) for key, scores in self.moves.items()},
        )


@dataclass(frozen=True)
class Strange:
    """Scores of a picture, or limits of them: the larger, the less it is like those learned from.

    Attributes:
        picture: distance of its features from the kind of pictures learned from.
        flat: entropy of its map.
        steps: distance of each step between two landmarks from those learned from.
        moves: how far two landmarks move when the picture is changed.
    """

    picture: float
    flat: float
    steps: Mapping[Step, float]
    moves: Mapping[Step, float]

    def over(self, limits: "Strange") -> dict[str, float]:
        """Each score in its limit, by what it is of; above 1 it exceeds it."""
        found = {"picture": self.picture / limits.picture, "map": self.flat / limits.flat}
        for (one, other), score in self.steps.items():
            found[f"{one} to {other}"] = score / limits.steps[one, other]
        for (one, other), score in self.moves.items():
            found[f"{one} and {other} move"] = score / max(limits.moves[one, other], TINY)
        return {what: round(float(value), 4) for what, value in found.items()}

    def doubts(self, limits: "Strange", compared: Collection[str]) -> list[str]:
        """What exceeds its limit, in words, of the scores `compared` (see `DiscoverSettings`)."""
        found = []
        if "picture" in compared and self.picture > limits.picture:
            times = self.picture / limits.picture
            found.append(f"it is unlike the pictures learned from ({times:.1f} times the limit)")
        if "map" in compared and self.flat > limits.flat:
            found.append("its map is flatter than those of the pictures learned from")
        for (one, other), score in self.steps.items() if "steps" in compared else ():
            if score > limits.steps[one, other]:
                found.append(f"{one} and {other} do not lie as in the pictures learned from")
        for (one, other), score in self.moves.items() if "moves" in compared else ():
            if score > limits.moves[one, other]:
                found.append(f"{one} and {other} move when the picture is changed a little")
        return found


def _mahalanobis(step: Array, known: Array) -> float:
    covariance = np.cov(known.T) + TINY * np.eye(2)
    offset = step - known.mean(axis=0)
    return float(np.sqrt(offset @ np.linalg.solve(covariance, offset)))


def _limit(scores: Array, coverage: float, otherwise: float = 0.0) -> float:
    """The conformal quantile; of too few scores the largest, or `otherwise` if that is larger."""
    found = conformal_quantile(scores, coverage)
    return found if np.isfinite(found) else max(float(scores.max()), otherwise)


def _gaussian_limit(count: int, coverage: float) -> float:
    """Mahalanobis distance that so many further steps of a Gaussian lie within.

    Mean and covariance are known from `count` steps (Hotelling's T squared of a further one).
    """
    size, left = 2, count - 2
    quantile = float(stats.f.ppf(coverage, size, left))
    return float(np.sqrt(size * (count**2 - 1) / (count * left) * quantile))


KIND = ("mean", "spread", "precision")


def save_familiar(path: Path, known: Mapping[str, Familiar]) -> None:
    """Write what the pictures of every network are like to one file without pickle."""
    arrays: dict[str, NDArray[Any]] = {}
    keys = {name: [list(key) for key in one.steps] for name, one in known.items()}
    for name, one in known.items():
        arrays |= {f"{name}/{part}": getattr(one.kind, part) for part in KIND}
        arrays |= {f"{name}/pictures": one.pictures, f"{name}/flat": one.flat}
        for n, key in enumerate(one.steps):
            arrays |= {f"{name}/step {n}": one.steps[key]}
            if key in one.moves:
                arrays |= {f"{name}/moves {n}": one.moves[key]}
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, known=np.array(json.dumps(keys)), **arrays)  # type: ignore[arg-type]


def load_familiar(path: Path) -> dict[str, Familiar]:
    """Read what `save_familiar` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {
                name: Familiar(
                    Kind(*(stored[f"{name}/{part}"] for part in KIND)),
                    stored[f"{name}/pictures"],
                    stored[f"{name}/flat"],
                    *(
                        {
                            (a, b): stored[f"{name}/{part} {n}"]
                            for n, (a, b) in enumerate(keys)
                            if f"{name}/{part} {n}" in stored
                        }
                        for part in ("step", "moves")
                    ),
                )
                for name, keys in json.loads(str(stored["known"])).items()
            }
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(
            f"{path}: cannot be read as what pictures learned from are like ({error})"
        ) from error
