"""Register with elastix: an affine and a B-spline transform by stochastic gradient descent."""

import os
import re
import tempfile
from pathlib import Path

# elastix with two or more threads crashes under ITK's default threader.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_THREADER", "Pool")

import itk
import numpy as np
import SimpleITK as sitk

from landmarkflow.core.errors import ScanFailure
from landmarkflow.images.extent import Extent
from landmarkflow.images.operations import array_of, grid_of, image_on
from landmarkflow.methods.oneshot.settings import ElastixSettings

LOG = "elastix.log"
# How far the registration moves a point of the template, more or less.
FARTHEST_MM = 1.0


def register(
    fixed: sitk.Image,
    fixed_mask: sitk.Image,
    moving: sitk.Image,
    settings: ElastixSettings,
    *,
    seed: int,
    extent: Extent | None = None,
) -> list[sitk.Transform]:
    """Register two images that already lie on each other.

    Args:
        fixed: the template.
        fixed_mask: where the similarity counts, on the template's grid.
        moving: the target.
        settings: transforms, grid, optimiser.
        seed: of elastix's random samples.
        extent: what the target's scan shows, if not all of `moving`; of the template, what lies
            beyond it or may be moved there does not count.

    Returns:
        The map from fixed to moving points, LPS mm, in the order in which an ITK composite lists
        its parts: the last is applied first.

    Raises:
        ScanFailure: the scan shows nothing of the mask, or elastix refuses the registration, its
            reason in the message.
    """
    registration = itk.ElastixRegistrationMethod.New(_to_itk(fixed), _to_itk(moving))
    counted = fixed_mask if extent is None else _seen(fixed_mask, extent)
    registration.SetFixedMask(_to_itk(counted))
    registration.SetParameterObject(_parameters(settings, seed))
    registration.SetNumberOfThreads(1)
    registration.SetLogToConsole(False)
    with tempfile.TemporaryDirectory() as folder:
        registration.SetOutputDirectory(folder)
        registration.SetLogToFile(True)
        registration.SetLogFileName(LOG)
        try:
            registration.UpdateLargestPossibleRegion()
        except RuntimeError as error:
            raise ScanFailure(f"elastix stopped: {_reason(Path(folder) / LOG)}") from error
        return _to_sitk(registration, Path(folder))


def _seen(mask: sitk.Image, extent: Extent) -> sitk.Image:
    """The voxels of a mask that a scan shows, and shows wherever they may be moved."""
    grid, values = grid_of(mask), array_of(mask)
    inside = np.argwhere(values)
    points = grid.to_physical(inside[:, ::-1].astype(np.float64))
    seen = extent.holds(points, FARTHEST_MM + float(grid.spacing.max()))
    if not seen.any():
        raise ScanFailure("the rigid registration puts the target outside the scan")
    values[tuple(inside[~seen].T)] = 0
    return image_on(grid, values)


def _parameters(settings: ElastixSettings, seed: int) -> itk.ParameterObject:
    parameters = itk.ParameterObject.New()
    if settings.affine:
        affine = _common(settings, seed, settings.affine_iterations)
        affine["Transform"] = ["AffineTransform"]
        affine["AutomaticScalesEstimation"] = ["true"]
        affine["AutomaticTransformInitialization"] = ["false"]
        parameters.AddParameterMap(affine)
    spline = _common(settings, seed, settings.iterations)
    spline["Transform"] = ["RecursiveBSplineTransform"]
    spline["FinalGridSpacingInPhysicalUnits"] = [str(settings.grid_spacing_mm)]
    spline["GridSpacingSchedule"] = [
        str(2.0**level) for level in reversed(range(settings.resolutions))
    ]
    parameters.AddParameterMap(spline)
    return parameters


def _common(settings: ElastixSettings, seed: int, iterations: int) -> dict[str, list[str]]:
    """What the linear and the B-spline registration share."""
    schedule = [str(2**level) for level in reversed(range(settings.resolutions)) for _ in range(3)]
    return {
        "Registration": ["MultiResolutionRegistration"],
        "Metric": ["AdvancedNormalizedCorrelation"],
        "Optimizer": ["AdaptiveStochasticGradientDescent"],
        "AutomaticParameterEstimation": ["true"],
        # The other method takes its step from the gradient at the start alone, and leaps away from
        # a start that fits well.
        "ASGDParameterEstimationMethod": ["Original"],
        "FixedImagePyramid": ["FixedRecursiveImagePyramid"],
        "MovingImagePyramid": ["MovingRecursiveImagePyramid"],
        "ImagePyramidSchedule": schedule,
        "NumberOfResolutions": [str(settings.resolutions)],
        "MaximumNumberOfIterations": [str(iterations)],
        "ImageSampler": ["RandomCoordinate"],
        "NumberOfSpatialSamples": [str(settings.samples)],
        "NewSamplesEveryIteration": ["true"],
        "MaximumNumberOfSamplingAttempts": ["16"],
        "RequiredRatioOfValidSamples": ["0.05"],
        "RandomSeed": [str(seed)],
        "Interpolator": ["LinearInterpolator"],
        "HowToCombineTransforms": ["Compose"],
        "ErodeMask": ["false"],
        "UseDirectionCosines": ["true"],
        "WriteResultImage": ["false"],
        "ResampleInterpolator": ["FinalLinearInterpolator"],
        "Resampler": ["DefaultResampler"],
        "FixedInternalImagePixelType": ["float"],
        "MovingInternalImagePixelType": ["float"],
    }


def _reason(log: Path) -> str:
    """Why elastix stopped, from its log, without the addresses that differ between runs."""
    told = re.findall(r"^Description: (?:ITK ERROR: )?(.+)$", log.read_text("utf-8"), re.MULTILINE)
    return re.sub(r"\(0x[0-9a-f]+\)", "", told[-1]) if told else "it does not say why"


def _to_itk(image: sitk.Image) -> itk.Image:
    """The same image for ITK; pixels are copied, the frame is kept."""
    result = itk.image_from_array(sitk.GetArrayFromImage(image))
    result.SetOrigin(image.GetOrigin())
    result.SetSpacing(image.GetSpacing())
    result.SetDirection(itk.matrix_from_array(np.array(image.GetDirection()).reshape(3, 3)))
    return result


def _to_sitk(registration: itk.ElastixRegistrationMethod, folder: Path) -> list[sitk.Transform]:
    """Elastix's transforms for SimpleITK, in the order in which a composite lists them."""
    converted = registration.ConvertToItkTransform(registration.GetCombinationTransform())
    path = folder / "transform.h5"
    itk.transformwrite([converted], str(path))
    read = sitk.ReadTransform(str(path))
    if read.GetTransformEnum() != sitk.sitkComposite:
        return [read]
    composite = sitk.CompositeTransform(read)
    return [composite.GetNthTransform(n) for n in range(composite.GetNumberOfTransforms())]
