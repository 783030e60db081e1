"""A plain elastix script: flip search, then rigid, affine and B-spline by normalised correlation.

Usage: elastix_search.py TEMPLATE LANDMARKS SCAN ABOVE FOUND
"""

import json
import sys
import tempfile
from pathlib import Path

import itk
import numpy as np
import SimpleITK as sitk
from pose import laid_on, points_of, read

GRID_MM = "2.0"


def main(template: str, landmarks: str, scan: str, above: str, found: str) -> None:
    """Writes the template's landmarks in the scan, label to (3,) LPS mm."""
    fixed, moving = read(Path(template)), read(Path(scan))
    pose = laid_on(fixed, moving, float(above))
    laid = sitk.Resample(moving, fixed, pose, sitk.sitkLinear)
    parameters = itk.ParameterObject.New()
    for kind in ("rigid", "affine", "bspline"):
        chosen = parameters.GetDefaultParameterMap(kind, 3)
        chosen["Metric"] = ["AdvancedNormalizedCorrelation"]
        if kind == "bspline":
            chosen["FinalGridSpacingInPhysicalUnits"] = [GRID_MM]
            del chosen["GridSpacingSchedule"]
        parameters.AddParameterMap(chosen)
    fixed_itk, laid_itk = (in_itk(image) for image in (fixed, laid))
    registration = itk.ElastixRegistrationMethod.New(fixed_itk, laid_itk)
    registration.SetParameterObject(parameters)
    registration.SetNumberOfThreads(1)
    registration.SetLogToConsole(False)
    registration.UpdateLargestPossibleRegion()
    points = points_of(Path(landmarks))
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "points.txt"
        rows = [" ".join(map(str, position)) for position in points.values()]
        listed.write_text("\n".join(["point", str(len(rows)), *rows]))
        mapping = itk.TransformixFilter.New(laid_itk)
        mapping.SetTransformParameterObject(registration.GetTransformParameterObject())
        mapping.SetFixedPointSetFileName(str(listed))
        mapping.SetOutputDirectory(folder)
        mapping.UpdateLargestPossibleRegion()
        lines = (Path(folder) / "outputpoints.txt").read_text().splitlines()
    mapped = [line.split("OutputPoint = [")[1].split("]")[0].split() for line in lines]
    there = [pose.TransformPoint(tuple(map(float, row))) for row in mapped]
    Path(found).write_text(json.dumps(dict(zip(points, there, strict=True))))


def in_itk(image: sitk.Image) -> itk.Image:
    """The same image for ITK."""
    converted = itk.image_from_array(sitk.GetArrayFromImage(image))
    converted.SetSpacing(image.GetSpacing())
    converted.SetOrigin(image.GetOrigin())
    converted.SetDirection(np.array(image.GetDirection()).reshape(3, 3))
    return converted


if __name__ == "__main__":
    main(*sys.argv[1:])
