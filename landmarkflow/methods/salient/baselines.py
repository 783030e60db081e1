"""Alignments that landmarks are compared with: by intensity (elastix), and by keypoints (ORB)."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import itk
import numpy as np
from numpy.typing import NDArray
from skimage.feature import ORB, match_descriptors
from skimage.measure import ransac
from skimage.transform import SimilarityTransform

from landmarkflow.methods.salient.pairs import Aligner, Shown
from landmarkflow.methods.salient.similarity import Similarity

Array = NDArray[np.float64]
Pictures = Mapping[str, NDArray[np.float32]]

# Matches of keypoints that a similarity needs, and the distance, pixels, up to which one agrees.
FEWEST_MATCHES, AGREES = 6, 4.0
TRIALS = 500
# A similarity of keypoints that is larger or smaller than this is none of two heads.
LARGEST_SCALE = 2.0


def by_intensity(pictures: Pictures, before: Aligner, iterations: int, seed: int) -> Aligner:
    """Aligner by elastix: a similarity with normalised correlation, after another alignment.

    Args:
        pictures: (rows, columns) intensities by scan.
        before: mirrors the source where it looks the other way.
        iterations: at each resolution.
        seed: of elastix's random samples.
    """

    def align(source: Shown, target: Shown) -> Similarity | None:
        start = before(source, target)
        if start is None:
            return None
        image = pictures[source.scan]
        moving = image[:, ::-1] if start.flip else image
        found = _elastix(pictures[target.scan], moving, iterations, seed)
        return None if found is None else Similarity(start.flip, source.width, found)

    return align


def _elastix(
    fixed: NDArray[np.float32], moving: NDArray[np.float32], iterations: int, seed: int
) -> Array | None:
    """(2, 3) from pixels of the moving picture to those of the fixed one; None where it stops."""
    parameters = itk.ParameterObject.New()
    asked = dict(parameters.GetDefaultParameterMap("rigid"))
    asked |= {
        "Transform": ["SimilarityTransform"],
        "Metric": ["AdvancedNormalizedCorrelation"],
        "MaximumNumberOfIterations": [str(iterations)],
        "AutomaticScalesEstimation": ["true"],
        "AutomaticTransformInitialization": ["true"],
        "RandomSeed": [str(seed)],
        "WriteResultImage": ["false"],
    }
    parameters.AddParameterMap(asked)
    images = [itk.image_from_array(np.ascontiguousarray(one)) for one in (fixed, moving)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            _, result = itk.elastix_registration_method(
                *images,
                parameter_object=parameters,
                log_to_console=False,
                output_directory=str(Path(folder)),
                number_of_threads=1,
            )
        except RuntimeError:
            return None
    found = result.GetParameterMap(0)
    scale, angle, right, down = (float(value) for value in found["TransformParameters"])
    centre = np.array([float(value) for value in found["CenterOfRotationPoint"]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # elastix maps points of the fixed picture to the moving one: this is its inverse.
    linear = np.linalg.inv(scale * turn)
    shift = centre - linear @ (centre + np.array([right, down]))
    return np.column_stack([linear, shift])


def by_keypoints(pictures: Pictures, count: int, seed: int) -> Aligner:
    """Aligner by ORB keypoints and RANSAC, mirrored or not, whichever more keypoints agree on.

    Args:
        pictures: (rows, columns) intensities by scan.
        count: keypoints of a picture.
        seed: of RANSAC.
    """
    known: dict[tuple[str, bool], tuple[Array, NDArray[np.bool_]]] = {}

    def keypoints(scan: str, flip: bool) -> tuple[Array, NDArray[np.bool_]]:
        if (scan, flip) not in known:
            image = pictures[scan][:, ::-1] if flip else pictures[scan]
            orb: Any = ORB(n_keypoints=count, fast_threshold=0.05)
            try:
                orb.detect_and_extract(image.astype(np.float64) / 255)
                known[scan, flip] = orb.keypoints[:, ::-1], orb.descriptors
            except RuntimeError:
                # ORB found no corner.
                known[scan, flip] = np.zeros((0, 2)), np.zeros((0, 256), bool)
        return known[scan, flip]

    def align(source: Shown, target: Shown) -> Similarity | None:
        best: tuple[int, Similarity] | None = None
        there, described = keypoints(target.scan, False)
        for flip in (False, True):
            here, descriptors = keypoints(source.scan, flip)
            if min(len(here), len(there)) < FEWEST_MATCHES:
                continue
            matches: NDArray[np.int64] = match_descriptors(descriptors, described, cross_check=True)
            if len(matches) < FEWEST_MATCHES:
                continue
            model, agree = ransac(
                (here[matches[:, 0]], there[matches[:, 1]]),
                SimilarityTransform,
                min_samples=2,
                residual_threshold=AGREES,
                max_trials=TRIALS,
                rng=np.random.default_rng(seed),
            )
            number = 0 if not model or agree is None else int(np.sum(agree))
            if number < FEWEST_MATCHES or (best is not None and number <= best[0]):
                continue
            if 1 / LARGEST_SCALE <= float(model.scale) <= LARGEST_SCALE:
                best = number, Similarity(flip, source.width, np.asarray(model.params[:2]))
        return None if best is None else best[1]

    return align
