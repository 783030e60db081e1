"""What can be chosen in each stage of the method `salient`; units are in the names."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from landmarkflow.core.settings import Settings, section

Share = Annotated[float, Field(ge=0, le=1)]


class GazeSettings(Settings):
    """How pictures and fixations become what the network learns from."""

    width: int = Field(
        256, ge=32, description="width of the network's input, pixels; pictures are fitted into it"
    )
    height: int = Field(192, ge=32, description="height of the network's input, pixels")
    stride: Literal[4, 8] = Field(4, description="pixels of the network's input in a map's cell")
    sigma: float = Field(
        12.0, gt=0, description="standard deviation of a fixation's Gaussian, see `sigma_unit`"
    )
    sigma_unit: Literal["pixels", "degrees", "percent"] = Field(
        "pixels",
        description="what `sigma` is in: pixels of a picture, degrees of visual angle, or percent "
        "of a picture's width",
    )
    pixels_per_degree: float = Field(
        0.0,
        ge=0,
        description="of the pictures as they were shown; needed where sigma is in degrees",
    )
    weight: Literal["count", "duration"] = Field(
        "count", description="whether every fixation counts alike, or as long as it took"
    )
    outside: Literal["refuse", "drop"] = Field(
        "refuse", description="what becomes of fixations beside their picture"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % 32 or self.height % 32:
            raise ValueError(
                f"width and height ({self.width} x {self.height}) must be multiples of 32"
            )
        if self.sigma_unit == "degrees" and not self.pixels_per_degree:
            raise ValueError("sigma is in degrees, expected pixels_per_degree above 0")
        return self

    def sigma_pixels(self, width: int) -> float:
        """The Gaussian's standard deviation in pixels of a picture of this width."""
        scale = {"pixels": 1.0, "degrees": self.pixels_per_degree, "percent": width / 100}
        return self.sigma * scale[self.sigma_unit]


class TrainSettings(Settings):
    """The training of the saliency network."""

    channels: int = Field(
        16,
        ge=4,
        description="channels at half resolution; deeper levels have more, up to six times",
    )
    blocks: int = Field(1, ge=1, description="residual blocks of each level; more are slower")
    members: int = Field(
        2,
        ge=1,
        description="networks that start differently and whose maps are averaged; each takes the "
        "same time",
    )
    priors: int = Field(
        8, ge=0, description="learned Gaussians that tell the network where in a picture it is"
    )
    smoothing: bool = Field(
        True, description="whether a learned blur smooths the map before its softmax"
    )
    kld: float = Field(1.0, ge=0, description="weight of the Kullback-Leibler divergence")
    cc: float = Field(0.3, ge=0, description="weight of the correlation; 0 in the paper")
    nss: float = Field(
        0.1, ge=0, description="weight of the normalised scanpath saliency; 0 in the paper"
    )
    epochs: int = Field(45, ge=1, description="how often every picture is learned from")
    pictures: int = Field(8, ge=2, description="pictures of a step")
    learning_rate: float = Field(
        0.004, gt=0, description="learning rate of AdamW at most; if too large, training diverges"
    )
    weight_decay: float = Field(0.1, ge=0, description="weight decay of AdamW")
    average: float = Field(
        0.998, ge=0, lt=1, description="share of the running mean of weights that a step leaves"
    )
    dropout: float = Field(0.3, ge=0, lt=1, description="share of deep channels that are left out")
    mixed: Share = Field(
        0.4, description="share of steps in which a part of each picture is another picture's"
    )
    mirror: Share = Field(0.5, description="share of pictures that are mirrored along x")
    scale: float = Field(0.5, ge=0, lt=0.7, description="largest relative change of size")
    shift: float = Field(0.2, ge=0, lt=0.5, description="largest shift, of the picture's size")
    rotation_degrees: float = Field(8.0, ge=0, le=180, description="largest rotation, degrees")
    contrast: float = Field(0.4, ge=0, lt=1, description="largest relative change of contrast")
    brightness: float = Field(
        0.15, ge=0, lt=1, description="largest shift of intensities of 0 to 1"
    )
    colour: float = Field(0.25, ge=0, lt=1, description="largest relative change of colours")
    gamma: float = Field(0.5, ge=0, description="largest logarithm of a gamma exponent")
    noise: float = Field(
        0.02, ge=0, description="largest deviation of noise on intensities of 0 to 1"
    )
    shade: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="largest relative change of brightness that differs from place to place",
    )
    blur_px: float = Field(
        0.0, ge=0, le=2.5, description="largest blur, pixels of the network's input"
    )
    grain: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="largest relative deviation of noise that multiplies, of grains of 1 to 4 "
        "pixels, as speckle does",
    )
    held_back: float = Field(
        0.1, ge=0, lt=0.9, description="share of the pictures held back where there are no folds"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="numbers that convolutions compute with; auto is bfloat16 where processor or "
        "GPU is fast at it",
    )


class PredictSettings(Settings):
    """How maps are predicted and judged."""

    mirror: bool = Field(
        True, description="whether a map is the mean of that of the picture and of its mirror image"
    )
    scales: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = Field(
        (0.75, 1.5, 2.0),
        description="further sizes at which a picture is looked at, of the network's input; a map "
        "is the mean over all",
    )
    soften_px: float = Field(
        6.0,
        ge=0,
        description="blur of that mean, pixels of the network's input: what networks never saw "
        "they place less surely than the blur says that they learned; 0 for none",
    )
    power: float = Field(
        1.3, gt=0, description="exponent of the map after that blur; above 1 peaks stand out more"
    )
    surround: float = Field(
        0.4,
        ge=0,
        description="exponent of the map's blur by `surround_px` that the map is divided by: what "
        "lies in a broad mass counts less; 0 for none",
    )
    surround_px: float = Field(
        36.0, gt=0, description="blur that is a cell's surroundings, pixels of the network's input"
    )
    blur_px: float = Field(
        12.0, gt=0, description="blur of the fixations' density that maps are judged by, pixels"
    )
    halves: int = Field(
        4,
        ge=1,
        description="divisions of the observers in two, for how well they predict each other",
    )


class DiscoverSettings(Settings):
    """Which maxima of a map are landmarks."""

    distance: int = Field(
        2, ge=1, description="cells on each side that a maximum is compared with (d of Eq. 1)"
    )
    threshold: Share = Field(
        0.1, description="least saliency of a maximum, of the map's largest (t of Eq. 2)"
    )
    familiar: float = Field(
        0.99,
        gt=0,
        le=1,
        description="share of pictures like those learned from that must pass as such; one that "
        "does not has no landmarks and a doubt. 1: no picture is compared",
    )
    compared: tuple[Literal["picture", "map", "steps", "moves"], ...] = Field(
        ("picture", "map", "steps"),
        description="what is compared: features of the whole picture, how flat its map is, steps "
        "between its landmarks, and how far these move when the picture is changed",
    )


class ClusterSettings(Settings):
    """How maxima get names that hold across pictures."""

    clusters: int = Field(
        0, ge=0, description="number of clusters; 0: that with the best silhouette"
    )
    most: int = Field(8, ge=2, description="largest number of clusters that is tried")
    features: Literal["last", "levels"] = Field(
        "levels",
        description="features of a maximum: of the last layer, as in the paper, or of the coarse "
        "levels, which see more of the picture",
    )
    views: int = Field(
        4,
        ge=0,
        description="changed views of each picture; features count by how little they differ "
        "between these; 0 as in the paper",
    )
    alike: Literal["views", "structures"] = Field(
        "views",
        description="features count by how little they differ between views of a landmark, or "
        "between landmarks of the same annotated structure",
    )
    dimensions: int = Field(
        3, ge=0, description="principal components that features are reduced to; 0 for none"
    )
    restarts: int = Field(10, ge=1, description="starts of k-means, of which the best counts")
    seeds: int = Field(5, ge=1, description="seeds over which the clusters' stability is measured")
    near: float = Field(
        10.0,
        gt=0,
        description="distance up to which a maximum is a structure's, percent of the picture's "
        "`scale`, or of its width",
    )
    farthest: float = Field(
        2.0,
        gt=0,
        description="distance of a landmark's features from its cluster, in that which 95 % of the "
        "cluster lie within, from which on it has no name",
    )
    least_share: Share = Field(
        0.5, description="share of a cluster near one structure, from which on it has its name"
    )


class AlignSettings(Settings):
    """The alignment of pairs of pictures, and what it is compared with."""

    landmarks: dict[str, tuple[str, ...]] = Field(
        {},
        description="by group of pictures the two landmarks that align them, or more, which are "
        "fitted robustly; without any nothing is aligned",
    )
    measured: dict[str, tuple[str, ...]] = Field(
        {}, description="by group the reference landmarks whose distances are measured"
    )
    near: float = Field(
        10.0,
        gt=0,
        description="distance within which a landmark is right, percent of the picture's `scale`",
    )
    tolerance: float = Field(
        5.0,
        gt=0,
        description="of more than two landmarks, distance up to which one agrees, percent of the "
        "target's `scale`",
    )
    baseline_pairs: int = Field(
        150,
        ge=0,
        description="pairs of each group that intensity and keypoints align, drawn by the seed; "
        "0 for all",
    )
    iterations: int = Field(256, ge=1, description="iterations of elastix at each resolution")
    keypoints: int = Field(300, ge=10, description="ORB keypoints of a picture; 10 are the fewest")


class SalientSettings(Settings):
    """Landmarks where people look: maxima of predicted maps, named by clusters of features."""

    gaze: GazeSettings = section(GazeSettings)
    train: TrainSettings = section(TrainSettings)
    predict: PredictSettings = section(PredictSettings)
    discover: DiscoverSettings = section(DiscoverSettings)
    cluster: ClusterSettings = section(ClusterSettings)
    align: AlignSettings = section(AlignSettings)
