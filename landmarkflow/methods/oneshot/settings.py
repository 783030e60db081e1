"""What can be chosen in each stage of the one-shot method; units are in the names."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from landmarkflow.core.settings import Settings, section

Millimetres = Annotated[float, Field(gt=0)]
MARGIN = "margin around the target in which scans are compared, mm"
SMOOTHING = "standard deviation of the Gaussian that smooths, mm; 0 for none"
CONTRAST = (
    "standard deviation of the Gaussian under which intensities are normalised, mm; 0 for none"
)
POINTS = "number of points compared, about; more are slower"


class NormaliseSettings(Settings):
    """The two intensities that become 0 and 1 (Eq. 8), in the scans' own units (HU in CT)."""

    method: Literal["auto", "hu", "percentiles", "histogram"] = Field(
        "auto",
        description="hu: low and high as they stand, HU or other fixed units; percentiles: each "
        "scan's own; histogram: each scan's is laid on the template's; auto: chosen by the "
        "template, and by each scan whose units are others",
    )
    low: float = Field(-1024.0, description="intensity that becomes 0, as does all below it")
    high: float = Field(3000.0, description="intensity that becomes 1, as does all above it")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class Component(Settings):
    """One Gaussian of the intensity mixture, in the scans' own units (HU in CT)."""

    mean: float = Field(description="mean intensity of the tissue")
    sd: float = Field(gt=0, description="standard deviation of the tissue's intensity")


class LocateSettings(Settings):
    """The regions that may hold the target, by a mixture of intensities (Eq. 1)."""

    method: Literal["auto", "mixture", "network", "whole"] = Field(
        "auto",
        description="mixture: by the dense component of intensities; network: the network looks "
        "through the whole scan; whole: the scan is the region, as of a head; auto: chosen by the "
        "template, and network for scans without anything dense",
    )
    spacing_mm: float = Field(
        0.25, gt=0, description="voxel size of the crop for later stages, mm; smaller is slower"
    )
    background: tuple[Component, ...] = Field(
        (
            Component(mean=-1000.0, sd=60.0),
            Component(mean=40.0, sd=80.0),
            Component(mean=500.0, sd=400.0),
            Component(mean=1200.0, sd=200.0),
        ),
        min_length=1,
        description="components of all that is not dense bone, as fitting starts",
    )
    dense: Component = Field(
        Component(mean=2000.0, sd=50.0),
        description="component of dense bone, by which regions are found, as fitting starts",
    )
    dense_shift_sd: float = Field(
        4.0, ge=0, description="largest move of the dense mean in fitting, in multiples of its `sd`"
    )
    search_spacing_mm: float = Field(
        1.0, gt=0, description="voxel size at which regions are looked for, mm"
    )
    target_radius_mm: float = Field(
        6.0, gt=0, description="radius of the target, mm; no two regions are closer than this"
    )
    candidates: int = Field(
        4, ge=1, description="largest number of regions that `centre` tries; more are slower"
    )
    weakest_candidate: float = Field(
        0.2, gt=0, le=1, description="least dense mass of a region, as a share of the heaviest's"
    )
    field_mm: float = Field(
        44.0, gt=0, description="width of the crop around the centre of each region, mm"
    )


class NetworkSettings(Settings):
    """The 2D U-Net and the square window that it sees."""

    window_pixels: int = Field(
        48, ge=16, description="side of the window, pixels; a multiple of 2 to the `levels` - 1"
    )
    spacing_mm: float = Field(
        0.5, gt=0, description="pixel size of the window, mm; the window is to hold the target"
    )
    channels: int = Field(
        12, ge=1, description="channels of the first level; each further one has twice as many"
    )
    levels: int = Field(
        3, ge=2, description="number of resolutions, each half as fine as the one before"
    )
    convolutions: int = Field(2, ge=1, description="number of convolutions in each block")
    batch_norm: bool = Field(True, description="whether batch normalisation follows a convolution")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="share of channels dropped in training; 0 for none"
    )

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        step = 2 ** (self.levels - 1)
        if self.window_pixels % step:
            raise ValueError(f"window_pixels ({self.window_pixels}) must be a multiple of {step}")
        return self

    @property
    def window_mm(self) -> float:
        """Side of the square window in mm."""
        return self.window_pixels * self.spacing_mm


class TrainSettings(Settings):
    """The training on slices of the template under random transforms (Algorithm 1)."""

    network: NetworkSettings = section(NetworkSettings)
    rotation_degrees: float = Field(
        15.0,
        ge=0,
        le=180,
        description="standard deviation of the rotation about each axis, degrees; 180 is every "
        "orientation alike",
    )
    translation_mm: float = Field(
        4.0, ge=0, description="standard deviation of a window's shift along each axis, mm"
    )
    elsewhere: float = Field(
        0.25,
        ge=0,
        le=1,
        description="share of windows anywhere in the crop, which show bone that is background",
    )
    scale: float = Field(
        0.06, ge=0, lt=0.5, description="largest relative change of size, either way"
    )
    mirror: bool = Field(True, description="whether half of the windows, at random, are mirrored")
    contrast: float = Field(
        0.08, ge=0, lt=0.5, description="largest relative change of contrast, either way"
    )
    noise: float = Field(
        0.02, ge=0, description="standard deviation of the noise added to intensities of 0 to 1"
    )
    transforms_per_batch: int = Field(4, ge=1, description="number of windows in a batch")
    slices_per_axis: int = Field(
        4, ge=1, description="number of slices of a window across each of the three axes"
    )
    batches_per_epoch: int = Field(20, ge=1, description="number of batches in an epoch")
    epochs: int = Field(14, ge=1, description="largest number of epochs; more are slower")
    patience: int = Field(
        6, ge=1, description="epochs without a smaller validation loss, after which training ends"
    )
    validation_transforms: int = Field(
        6, ge=1, description="number of windows for validation, the same for every seed"
    )
    learning_rate: float = Field(
        0.003, gt=0, description="learning rate of Adam at first; if too large, training diverges"
    )
    learning_rate_decay: Literal["cosine", "paper", "none"] = Field(
        "cosine", description="fall of the rate: cosine, paper (divided by the epoch) or none"
    )
    loss: Literal["cross_entropy_and_dice", "cross_entropy"] = Field(
        "cross_entropy_and_dice",
        description="cross_entropy_and_dice, or cross_entropy as in the paper, by which some seeds "
        "learn to mark nothing",
    )
    least_dice: float = Field(
        0.3, ge=0, lt=1, description="least Dice overlap in validation; below it the study stops"
    )


class CentreSettings(Settings):
    """The target's centre from three views (Algorithm 2), and the choice among the regions."""

    first_every: int = Field(
        2,
        ge=1,
        description="number of slices of which the first iteration looks at one; the paper's is 1",
    )
    tolerance_mm: float = Field(
        0.3, gt=0, description="move of the centre below which the iteration ends, mm"
    )
    iterations: int = Field(
        8, ge=1, description="largest number of iterations; a scan that needs more is doubtful"
    )
    field_mm: float = Field(
        30.0, gt=0, description="side of the cube cut out around the target, mm"
    )
    least_mass: float = Field(
        0.1,
        ge=0,
        description="least volume that the network marks, as a share of the template's; below it "
        "the scan fails",
    )


class AlignSettings(Settings):
    """The moments of inertia (Eq. 2) and the rigid registration that starts there (Eq. 3)."""

    mask_margin_mm: float = Field(2.5, ge=0, description=MARGIN)
    moments_radius_mm: float = Field(
        8.0, gt=0, description="radius around the target's centre in which moments are taken, mm"
    )
    starts: tuple[Literal["moments", "upright"], ...] = Field(
        ("moments", "upright"),
        min_length=1,
        description="poses to start from: moments (four flips of the principal axes), upright (as "
        "the template lies)",
    )
    spacings_mm: tuple[float, ...] = Field(
        (1.0, 0.5), min_length=1, description="voxel sizes of the comparison, coarse to fine, mm"
    )
    samples: int = Field(4000, ge=100, description=POINTS)
    optimiser: Literal["lbfgs", "gradient_descent"] = Field(
        "lbfgs", description="lbfgs, or gradient_descent as in the paper"
    )
    iterations: int = Field(
        50, ge=1, description="largest number of iterations from each start and at each spacing"
    )
    learning_rate: float = Field(0.99, gt=0, description="step of gradient_descent; lbfgs has none")
    least_correlation: float = Field(
        0.3, ge=-1, le=1, description="least correlation with the template; below it the scan fails"
    )


class LevelSettings(Settings):
    """One resolution of the registration: what is compared, and for how long."""

    spacing_mm: float = Field(gt=0, description="voxel size of the comparison, mm")
    smoothing_mm: float = Field(ge=0, description=SMOOTHING)
    contrast_mm: float = Field(ge=0, description=CONTRAST)
    samples: int = Field(ge=100, description=POINTS)
    iterations: int = Field(ge=1, description="largest number of iterations")


class SplineLevelSettings(LevelSettings):
    """One resolution of the B-spline."""

    grid_spacing_mm: float = Field(
        gt=0, description="distance of control points, mm; smaller follows finer shapes"
    )
    bending: float = Field(ge=0, description="weight of bending; larger keeps the map smoother")


class LbfgsSettings(Settings):
    """The registration by L-BFGS and locally normalised correlation."""

    affine: LevelSettings | None = Field(
        LevelSettings(
            spacing_mm=0.75, smoothing_mm=0.3, contrast_mm=0.0, samples=10000, iterations=40
        ),
        description="affine registration before the B-spline; null leaves it out",
    )
    levels: tuple[SplineLevelSettings, ...] = Field(
        (
            SplineLevelSettings(
                spacing_mm=0.5,
                smoothing_mm=0.3,
                contrast_mm=1.0,
                samples=10000,
                iterations=60,
                grid_spacing_mm=4.0,
                bending=1.0,
            ),
            SplineLevelSettings(
                spacing_mm=0.25,
                smoothing_mm=0.1,
                contrast_mm=0.5,
                samples=20000,
                iterations=40,
                grid_spacing_mm=2.0,
                bending=1.0,
            ),
        ),
        min_length=1,
        description="resolutions of the B-spline, coarse to fine",
    )


class ElastixSettings(Settings):
    """The registration by elastix."""

    affine: bool = Field(False, description="whether an affine registration comes first")
    grid_spacing_mm: float = Field(
        2.5, gt=0, description="distance of control points at the finest resolution, mm"
    )
    resolutions: int = Field(
        3, ge=1, description="number of resolutions, each half as fine as the next"
    )
    affine_iterations: int = Field(
        100, ge=1, description="number of affine iterations at each resolution"
    )
    iterations: int = Field(
        250, ge=1, description="number of iterations of the B-spline at each resolution"
    )
    samples: int = Field(2048, ge=100, description="number of points compared in an iteration")


class DeformSettings(Settings):
    """The affine and B-spline registration (Eq. 5 and 6)."""

    method: Literal["lbfgs", "elastix"] = Field(
        "lbfgs", description="lbfgs, or elastix as in the paper"
    )
    mask_margin_mm: float = Field(1.0, ge=0, description=MARGIN)
    most_folded: float = Field(
        0.05, ge=0, le=1, description="share of folded voxels above which the scan is doubtful"
    )
    lbfgs: LbfgsSettings = section(LbfgsSettings)
    elastix: ElastixSettings = section(ElastixSettings)


class SymmetriseSettings(Settings):
    """The evening out of the template's landmarks by their left-right symmetry."""

    enabled: bool = Field(
        False, description="whether it is done; for a template that shows left and right"
    )
    partner_mm: float = Field(
        1.0, gt=0, description="largest distance of a landmark's reflection from its partner, mm"
    )


class VoteSettings(Settings):
    """The votes of scans on each other's landmarks."""

    peers: int = Field(
        0, ge=0, description="number of scans that vote on a scan; each costs a registration"
    )
    farthest_mm: float = Field(
        0.5, gt=0, description="distance from the votes' median beyond which one does not count, mm"
    )


class SearchSettings(Settings):
    """The wider search for a landmark whose surroundings are unlike the template's."""

    below: float = Field(
        0.8, ge=-1, le=1, description="similarity of surroundings below which a landmark is sought"
    )
    least_gain: float = Field(
        0.1, gt=0, description="gain in similarity that moves it, and makes the scan doubtful"
    )
    radius_mm: Millimetres = Field(2.0, description="radius of the ball that is compared, mm")
    reach_mm: Millimetres = Field(2.0, description="largest distance at which it is sought, mm")


class RefineSettings(Settings):
    """The windows around the landmarks that are registered once more."""

    enabled: bool = Field(
        True, description="whether landmarks move; radii are taken from the windows either way"
    )
    radii_mm: tuple[Millimetres, ...] = Field(
        (0.5, 0.75, 1.0),
        min_length=1,
        description="radii of a landmark's windows, mm; it moves by the mean of their shifts",
    )
    spacing_mm: float = Field(0.25, gt=0, description="distance of a window's points, mm")
    smoothing_mm: float = Field(0.1, ge=0, description=SMOOTHING)
    contrast_mm: float = Field(0.5, ge=0, description=CONTRAST)
    prior_mm: float = Field(
        0.15, gt=0, description="standard deviation of a landmark's move, mm; smaller holds it back"
    )
    iterations: int = Field(8, ge=1, description="largest number of iterations")
    search: SearchSettings = section(SearchSettings)


class CloseSettings(Settings):
    """The registrations back to the template, which tell how far errors reach."""

    loops: int = Field(
        12, ge=1, description="number of scans registered back, the study's first; more are slower"
    )


class PlaceSettings(Settings):
    """The radius of each landmark, and what makes a scan doubtful."""

    radius_in_loops: float = Field(
        1.9, gt=0, description="factor from the loops' error to a radius; larger holds more points"
    )
    annotation_mm: float = Field(
        0.2, ge=0, description="distance within which 9 of 10 annotations of a point agree, mm"
    )
    similarity_radius_mm: float = Field(
        2.0, gt=0, description="radius of the ball that is compared with the template's, mm"
    )
    least_similarity: float = Field(
        0.8, ge=-1, le=1, description="least similarity of surroundings in the median, -1 to 1"
    )
    least_landmark_similarity: float = Field(
        0.5, ge=-1, le=1, description="least similarity of one landmark's surroundings, -1 to 1"
    )
    most_scaling: float = Field(
        1.4,
        gt=1,
        description="largest ratio of the landmarks' spread to the template's, or of this to that",
    )
    most_unsure: float = Field(
        3.0, gt=1, description="largest deviation in the median, in multiples of the study's usual"
    )


class SegmentSettings(Settings):
    """The template's labels in each scan."""

    enabled: bool = Field(
        True, description="whether they are written; only where the template was given some"
    )


class OneShotSettings(Settings):
    """The one-shot method: a small network, then registration of the template."""

    normalise: NormaliseSettings = section(NormaliseSettings)
    locate: LocateSettings = section(LocateSettings)
    train: TrainSettings = section(TrainSettings)
    centre: CentreSettings = section(CentreSettings)
    align: AlignSettings = section(AlignSettings)
    deform: DeformSettings = section(DeformSettings)
    symmetrise: SymmetriseSettings = section(SymmetriseSettings)
    vote: VoteSettings = section(VoteSettings)
    refine: RefineSettings = section(RefineSettings)
    close: CloseSettings = section(CloseSettings)
    place: PlaceSettings = section(PlaceSettings)
    segment: SegmentSettings = section(SegmentSettings)
