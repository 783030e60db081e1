"""A plain ANTs script: flip search, then affine and SyN at 0.2 mm.

Usage: ants_syn.py TEMPLATE LANDMARKS SCAN ABOVE FOUND
"""

import json
import sys
import tempfile
from pathlib import Path

import ants
import pandas as pd
import SimpleITK as sitk
from pose import laid_on, points_of, read

SPACING_MM = 0.2


def main(template: str, landmarks: str, scan: str, above: str, found: str) -> None:
    """Writes the template's landmarks in the scan, label to (3,) LPS mm."""
    fixed, moving = read(Path(template)), read(Path(scan))
    pose = laid_on(fixed, moving, float(above))
    size = [
        round(n * s / SPACING_MM) for n, s in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)
    ]
    grid = (size, fixed.GetOrigin(), [SPACING_MM] * 3, fixed.GetDirection())
    with tempfile.TemporaryDirectory() as folder:
        images = []
        for name, image, way in (
            ("fixed", fixed, sitk.Transform(3, sitk.sitkIdentity)),
            ("moving", moving, pose),
        ):
            placed = sitk.Resample(
                image, grid[0], way, sitk.sitkLinear, grid[1], grid[2], grid[3], 0.0
            )
            path = f"{folder}/{name}.nii"
            sitk.WriteImage(placed, path)
            images.append(ants.image_read(path))
        result = ants.registration(
            *images, type_of_transform="SyN", outprefix=f"{folder}/", random_seed=1
        )
        points = points_of(Path(landmarks))
        table = pd.DataFrame(list(points.values()), columns=["x", "y", "z"])
        mapped = ants.apply_transforms_to_points(3, table, result["fwdtransforms"])
    there = [pose.TransformPoint(row) for row in mapped[["x", "y", "z"]].to_numpy().tolist()]
    Path(found).write_text(json.dumps(dict(zip(points, there, strict=True))))


if __name__ == "__main__":
    main(*sys.argv[1:])
