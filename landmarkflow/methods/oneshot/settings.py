"""What can be chosen in each stage of the one-shot method; units are in the names."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class StageSettings(BaseModel):
    """Base of all stages' settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Millimetres = Annotated[float, Field(gt=0)]


class NormaliseSettings(StageSettings):
    """Eq. 8: the intensities that become 0 and 1."""

    low: float = -1024.0
    high: float = 3000.0

    @model_validator(mode="after")
    def _ordered(self) -> "NormaliseSettings":
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class Component(StageSettings):
    """One Gaussian of the intensity mixture, in the scan's own units (HU in CT)."""

    mean: float
    sd: float = Field(gt=0)


class LocateSettings(StageSettings):
    """The rough region of interest from a mixture of intensities."""

    spacing_mm: float = Field(0.25, gt=0)
    background: tuple[Component, ...] = Field(
        (
            Component(mean=-1000.0, sd=60.0),
            Component(mean=40.0, sd=80.0),
            Component(mean=500.0, sd=400.0),
            Component(mean=1200.0, sd=200.0),
        ),
        min_length=1,
    )
    dense: Component = Component(mean=2000.0, sd=50.0)
    dense_shift_sd: float = Field(4.0, ge=0)
    search_spacing_mm: float = Field(1.0, gt=0)
    target_radius_mm: float = Field(6.0, gt=0)
    candidates: int = Field(4, ge=1)
    weakest_candidate: float = Field(0.2, gt=0, le=1)
    field_mm: float = Field(44.0, gt=0)


class NetworkSettings(StageSettings):
    """The 2D U-Net and the square window that it sees."""

    window_pixels: int = Field(48, ge=16)
    spacing_mm: float = Field(0.5, gt=0)
    channels: int = Field(12, ge=1)
    levels: int = Field(3, ge=2)
    convolutions: int = Field(2, ge=1)
    batch_norm: bool = True
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _divisible(self) -> "NetworkSettings":
        step = 2 ** (self.levels - 1)
        if self.window_pixels % step:
            raise ValueError(f"window_pixels ({self.window_pixels}) must be a multiple of {step}")
        return self

    @property
    def window_mm(self) -> float:
        """Side of the square window in mm."""
        return self.window_pixels * self.spacing_mm


class TrainSettings(StageSettings):
    """Algorithm 1. Ranges are standard deviations; 180 degrees means every orientation alike."""

    network: NetworkSettings = NetworkSettings()
    rotation_degrees: float = Field(15.0, ge=0, le=180)
    translation_mm: float = Field(4.0, ge=0)
    elsewhere: float = Field(0.25, ge=0, le=1)
    scale: float = Field(0.06, ge=0, lt=0.5)
    mirror: bool = True
    contrast: float = Field(0.08, ge=0, lt=0.5)
    noise: float = Field(0.02, ge=0)
    transforms_per_batch: int = Field(4, ge=1)
    slices_per_axis: int = Field(4, ge=1)
    batches_per_epoch: int = Field(20, ge=1)
    epochs: int = Field(14, ge=1)
    patience: int = Field(6, ge=1)
    validation_transforms: int = Field(6, ge=1)
    learning_rate: float = Field(0.003, gt=0)
    learning_rate_decay: Literal["cosine", "paper", "none"] = "cosine"
    loss: Literal["cross_entropy_and_dice", "cross_entropy"] = "cross_entropy_and_dice"
    least_dice: float = Field(0.3, ge=0, lt=1)


class CentreSettings(StageSettings):
    """Algorithm 2 and the choice among candidate regions."""

    first_every: int = Field(2, ge=1)
    tolerance_mm: float = Field(0.3, gt=0)
    iterations: int = Field(8, ge=1)
    field_mm: float = Field(30.0, gt=0)
    least_mass: float = Field(0.1, ge=0)


class AlignSettings(StageSettings):
    """Moments of inertia and the rigid registration that starts from them."""

    mask_margin_mm: float = Field(2.5, ge=0)
    moments_radius_mm: float = Field(8.0, gt=0)
    starts: tuple[Literal["moments", "upright"], ...] = Field(("moments", "upright"), min_length=1)
    spacings_mm: tuple[float, ...] = Field((1.0, 0.5), min_length=1)
    samples: int = Field(4000, ge=100)
    optimiser: Literal["lbfgs", "gradient_descent"] = "lbfgs"
    iterations: int = Field(50, ge=1)
    learning_rate: float = Field(0.99, gt=0)
    least_correlation: float = Field(0.3, ge=-1, le=1)


class LevelSettings(StageSettings):
    """One resolution of the registration: what is compared, and for how long."""

    spacing_mm: float = Field(gt=0)
    smoothing_mm: float = Field(ge=0)
    contrast_mm: float = Field(ge=0)
    samples: int = Field(ge=100)
    iterations: int = Field(ge=1)


class SplineLevelSettings(LevelSettings):
    """One resolution of the B-spline."""

    grid_spacing_mm: float = Field(gt=0)
    bending: float = Field(ge=0)


class LbfgsSettings(StageSettings):
    """The registration by L-BFGS and locally normalised correlation."""

    affine: LevelSettings | None = LevelSettings(
        spacing_mm=0.75, smoothing_mm=0.3, contrast_mm=0.0, samples=10000, iterations=40
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
    )


class ElastixSettings(StageSettings):
    """The registration by elastix."""

    affine: bool = False
    grid_spacing_mm: float = Field(2.5, gt=0)
    resolutions: int = Field(3, ge=1)
    affine_iterations: int = Field(100, ge=1)
    iterations: int = Field(250, ge=1)
    samples: int = Field(2048, ge=100)


class DeformSettings(StageSettings):
    """The B-spline registration."""

    method: Literal["lbfgs", "elastix"] = "lbfgs"
    mask_margin_mm: float = Field(1.0, ge=0)
    most_folded: float = Field(0.05, ge=0, le=1)
    lbfgs: LbfgsSettings = LbfgsSettings()
    elastix: ElastixSettings = ElastixSettings()


class SymmetriseSettings(StageSettings):
    """Whether the template's landmarks are evened out by their left-right symmetry."""

    enabled: bool = False
    partner_mm: float = Field(1.0, gt=0)


class ConsensusSettings(StageSettings):
    """How many scans vote on another's landmarks, and which vote does not count."""

    peers: int = Field(0, ge=0)
    farthest_mm: float = Field(0.5, gt=0)


class FuseSettings(StageSettings):
    """How the landmarks by several templates become one."""

    farthest_mm: float = Field(1.0, gt=0)
    shared_error: float = Field(0.6, ge=0, le=1)


class SearchSettings(StageSettings):
    """Where a landmark is looked for further off: its surroundings being unlike the template's."""

    below: float = Field(0.8, ge=-1, le=1)
    least_gain: float = Field(0.1, gt=0)
    radius_mm: Millimetres = 2.0
    reach_mm: Millimetres = 2.0


class RefineSettings(StageSettings):
    """The windows around the landmarks that are registered once more, and whether they move."""

    enabled: bool = True
    radii_mm: tuple[Millimetres, ...] = Field((0.5, 0.75, 1.0), min_length=1)
    spacing_mm: float = Field(0.25, gt=0)
    smoothing_mm: float = Field(0.1, ge=0)
    contrast_mm: float = Field(0.5, ge=0)
    prior_mm: float = Field(0.15, gt=0)
    iterations: int = Field(8, ge=1)
    search: SearchSettings = SearchSettings()


class ConfidenceSettings(StageSettings):
    """How sure a landmark is, and what makes a scan doubtful."""

    loops: int = Field(12, ge=1)
    radius_in_loops: float = Field(1.9, gt=0)
    annotation_mm: float = Field(0.2, ge=0)
    similarity_radius_mm: float = Field(2.0, gt=0)
    least_similarity: float = Field(0.8, ge=-1, le=1)
    least_landmark_similarity: float = Field(0.5, ge=-1, le=1)
    most_scaling: float = Field(1.4, gt=1)
    most_unsure: float = Field(3.0, gt=1)


class OneShotSettings(StageSettings):
    """All stages of the one-shot method."""

    normalise: NormaliseSettings = NormaliseSettings()
    locate: LocateSettings = LocateSettings()
    train: TrainSettings = TrainSettings()
    centre: CentreSettings = CentreSettings()
    align: AlignSettings = AlignSettings()
    deform: DeformSettings = DeformSettings()
    symmetrise: SymmetriseSettings = SymmetriseSettings()
    consensus: ConsensusSettings = ConsensusSettings()
    refine: RefineSettings = RefineSettings()
    confidence: ConfidenceSettings = ConfidenceSettings()
    fuse: FuseSettings = FuseSettings()
