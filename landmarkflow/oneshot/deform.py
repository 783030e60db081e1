"""Deform with B-splines (Eq. 5 and 6): elastix, template fixed, so that nothing is inverted."""

import os
import re
import tempfile
from pathlib import Path

# elastix with two or more threads crashes under ITK's default threader.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_THREADER", "Pool")

import itk
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.errors import InputError, ScanFailure
from landmarkflow.oneshot.settings import DeformSettings
from landmarkflow.volumes import array_of, carried, cropped, grid_of

# What the registration can look at: the mask's surroundings for the pyramid's smoothing, and as
# far again as a landmark may move.
FIXED_MARGIN_MM = 1.5
MOVING_MARGIN_MM = 3.0
LINEAR_TRANSFORMS = {"similarity": "SimilarityTransform", "affine": "AffineTransform"}
LOG = "elastix.log"


def deform(
    template: sitk.Image,
    template_mask: sitk.Image,
    target: sitk.Image,
    rigid: sitk.Transform,
    settings: DeformSettings,
    *,
    seed: int,
) -> sitk.CompositeTransform:
    """Refine a rigid alignment by a linear and a B-spline registration.

    The target is first carried into the template's frame by changing its header alone, so that no
    voxel is interpolated twice.

    Args:
        template: the fixed image.
        template_mask: where the similarity counts, on the template's grid.
        target: the moving image.
        rigid: takes template points to target points, LPS mm.
        settings: transforms, grid, optimiser.
        seed: of elastix's random samples.

    Returns:
        The map from template points to target points: rigid ∘ linear ∘ B-spline as one ITK
        composite, in the order in which ITK applies it.

    Raises:
        ScanFailure: elastix refuses the registration, its reason in the message, or the rigid
            alignment leaves nothing of the target to compare.
    """
    inside = _points_inside(template_mask)
    fixed = cropped(template, inside, FIXED_MARGIN_MM)
    try:
        moving = cropped(carried(target, rigid), inside, MOVING_MARGIN_MM)
    except InputError:
        raise ScanFailure("the rigid registration puts the target outside the scan") from None
    registration = itk.ElastixRegistrationMethod.New(_to_itk(fixed), _to_itk(moving))
    registration.SetFixedMask(_to_itk(cropped(template_mask, inside, FIXED_MARGIN_MM)))
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
        refined = _to_sitk(registration, Path(folder))
    whole = sitk.CompositeTransform(3)
    whole.AddTransform(rigid)
    for part in refined:
        whole.AddTransform(part)
    return whole


def folded_share(transform: sitk.Transform, mask: sitk.Image) -> float:
    """Share of the mask's voxels where the map folds: its Jacobian determinant changes sign."""
    grid = grid_of(mask)
    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, grid.size, grid.origin, grid.spacing
    )
    determinant = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))
    inside = determinant[array_of(mask) > 0]
    # A scan of the other side is mirrored as a whole, which is no fold.
    return float((inside * np.sign(np.median(inside)) <= 0).mean())


def _points_inside(mask: sitk.Image) -> NDArray[np.float64]:
    return grid_of(mask).to_physical(np.argwhere(array_of(mask) > 0)[:, ::-1].astype(np.float64))


def _parameters(settings: DeformSettings, seed: int) -> itk.ParameterObject:
    parameters = itk.ParameterObject.New()
    if settings.linear != "none":
        linear = _common(settings, seed, settings.linear_iterations)
        linear["Transform"] = [LINEAR_TRANSFORMS[settings.linear]]
        linear["AutomaticScalesEstimation"] = ["true"]
        linear["AutomaticTransformInitialization"] = ["false"]
        parameters.AddParameterMap(linear)
    spline = _common(settings, seed, settings.iterations)
    spline["Transform"] = ["RecursiveBSplineTransform"]
    spline["FinalGridSpacingInPhysicalUnits"] = [str(settings.grid_spacing_mm)]
    spline["GridSpacingSchedule"] = [
        str(2.0**level) for level in reversed(range(settings.resolutions))
    ]
    parameters.AddParameterMap(spline)
    return parameters


def _common(settings: DeformSettings, seed: int, iterations: int) -> dict[str, list[str]]:
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
