"""The settings of a study, checked before anything runs."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
)

from landmarkflow.cohorts.fetal_head_settings import FetalHeadSettings
from landmarkflow.cohorts.fundus_settings import FundusSettings
from landmarkflow.cohorts.mr_head_settings import MrHeadSettings
from landmarkflow.cohorts.settings import CohortSettings
from landmarkflow.core.errors import InputError
from landmarkflow.core.settings import Settings, explain
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.report.settings import ReportSettings


def _spelled(*names: str, **short: str) -> BeforeValidator:
    """Capitals and spaces around a name do not matter, as sheets have them."""
    known = {name.casefold(): name for name in names} | short

    def name_of(value: Any) -> Any:
        return known.get(value.strip().casefold(), value) if isinstance(value, str) else value

    return BeforeValidator(name_of)


Side = Annotated[Literal["left", "right", ""], _spelled("left", "right", l="left", r="right")]
Frame = Annotated[Literal["LPS", "RAS", "pixels", ""], _spelled("LPS", "RAS", "pixels")]
Split = Annotated[Literal["train", "validation", ""], _spelled("train", "validation")]
Unit = Literal["mm", "px", "%"]
# Of scans and runs, as names of files and wildcards have it: no dot, so that no name is two.
ID = "[A-Za-z0-9][A-Za-z0-9_-]*"
Identifier = Annotated[str, StringConstraints(pattern=rf"^{ID}$", max_length=64)]


def _series(value: str) -> str:
    if not re.fullmatch(r"([0-9]+(\.[0-9]+)*)?", value):
        raise ValueError("expected the number of a DICOM series, such as 3, or its UID")
    return value


SeriesId = Annotated[str, AfterValidator(_series)]


def scan_id(name: Any) -> Any:
    """The id of a scan that is called so: a UID, say, has dots, which end names of files."""
    return name.replace(".", "-") if isinstance(name, str) else name


ScanId = Annotated[Identifier, BeforeValidator(scan_id)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Names in the results folder that no run can have.
FORMER_SCANS = "former_scans"
RESERVED = ("work", FORMER_SCANS)


class Template(Settings):
    """The one annotated scan."""

    image: str = Field(min_length=1, description="its file, or folder of one DICOM series")
    landmarks: str = Field(min_length=1, description="file of its landmarks")
    segmentation: str = Field("", description="file of its target; empty to derive one")
    series: SeriesId = Field("", description="number or UID of its DICOM series, among several")
    side: Side = Field("", description="the side that it shows")
    frame: Frame = Field("", description="frame of its landmarks, where their file states none")


class CohortSource(Settings):
    """Scans that the workflow simulates; the study's own seed does not change them."""

    seed: int = Field(1, ge=0, lt=2**31, description="of the scans; another makes other ears")
    scans: int = Field(24, ge=1, le=9999, description="how many scans there are")
    evaluated: int = Field(24, ge=0, description="how many of them have reference landmarks")
    training: int = Field(
        0, ge=0, le=9999, description="annotated scans for supervised methods, numbered after these"
    )
    kind: Literal["ear", "mr_head", "fundus", "fetal_head"] = Field(
        "ear", description="what they show"
    )
    anatomy: CohortSettings = Field(
        CohortSettings(), description="of ears: the scanner and the poses"
    )
    mr_head: MrHeadSettings = Field(
        MrHeadSettings(), description="of heads in magnetic resonance: the scanner and the poses"
    )
    fundus: FundusSettings = Field(
        FundusSettings(), description="of fundus photographs: eyes, lesions and cameras"
    )
    fetal_head: FetalHeadSettings = Field(
        FetalHeadSettings(), description="of fetal heads: size, pose and observers"
    )


class SheetSource(Settings):
    """A sheet of scans, tab-separated, with the template beside it, where there is one."""

    sheet: str = Field(min_length=1, description="file of the sheet")
    template: Template | None = Field(
        None, description="the annotated scan, for methods that start from one"
    )


class OriginFile(Settings):
    """A file at its public origin."""

    path: str = Field(min_length=1, description="below the origin's address")
    sha256: Digest = Field(description="the digest that its content must have")


class OriginScan(Settings):
    """A scan and its landmarks at their public origin."""

    image: OriginFile = Field(description="the scan")
    landmarks: OriginFile = Field(description="its landmarks")


class OriginSource(Settings):
    """Scans that the workflow fetches, each file checked against its SHA-256."""

    url: str = Field(pattern=r"^https://", description="address of the origin")
    template: OriginScan = Field(description="the annotated scan")
    scans: dict[ScanId, OriginScan] = Field(min_length=1, description="the other scans by id")


class DataSource(Settings):
    """Where the scans come from: `folder` where it is set, else the one other that is given."""

    folder: str = Field(
        "",
        description="folder with template/ and scans/, or of pictures with images/; "
        "data_folder=<folder> on the command line",
    )
    cohort: CohortSource | None = Field(None, description="scans that the workflow simulates")
    sheet: SheetSource | None = Field(None, description="a sheet of scans and a template")
    origin: OriginSource | None = Field(None, description="scans that the workflow fetches")
    template_side: Side = Field(
        "", description="left or right: scans of the other side are mirrored"
    )
    template_series: SeriesId = Field(
        "", description="number or UID of the DICOM series in a folder's template/scan/"
    )
    labels: tuple[int, ...] = Field(
        (), description="of the template's segmentation that are the target; [] is all"
    )
    landmarks: tuple[str, ...] = Field(
        (),
        description="of the template, or of the annotated scans where there is none, that are "
        "looked for and evaluated, in order; [] is all",
    )
    raters: tuple[str, ...] = Field(
        (),
        description="of tables of landmarks with a column `rater`, whose marks count; a landmark "
        "lies at the mean of those who marked it; [] is all",
    )
    reviewed: str = Field(
        "",
        description="folder of `landmarkflow review`, results/<study>/<run>/reviewed: references "
        "of the scans that have none of their own",
    )
    targets: Literal["one", "all"] = Field(
        "one",
        description="of a scan x whose side is not stated: one, or all, its left as the scan "
        "x-left and its right as x-right",
    )
    folds: int = Field(
        0,
        ge=0,
        description="into so many parts the annotated scans are split, each predicted by networks "
        "that were trained without it; 0 for none. Where no scans are there to learn from alone, "
        "those that are evaluated are learned from, too, each by the networks of other parts",
    )
    folds_by: Literal["scan", "group"] = Field(
        "scan",
        description="what is split: single scans, or groups of the sheet's column `group`, such as "
        "specimens or cameras, of which none is in two parts",
    )
    largest_gib: float = Field(
        8.0, gt=0, description="GiB that a scan may hold in memory; a larger one is refused"
    )


class TargetSettings(Settings):
    """How the target of a template without a segmentation is found around its landmarks.

    Without intensities it is the bright or the dark voxels there, whichever have a surface of their
    own, or all voxels where neither have.
    """

    above: float | None = Field(
        None, description="intensity above which a voxel is part of the target; null to find it"
    )
    below: float | None = Field(
        None, description="intensity below which a voxel is part of the target; null to find it"
    )
    margin_mm: float | None = Field(
        None,
        ge=0,
        description="how far beyond the landmarks' convex hull the target reaches, mm; null for "
        "half of their root mean square distance from their centre, or the whole of it where all "
        "voxels are the target",
    )


class RunEntry(Settings):
    """A run as a study states it."""

    method: str = Field(description="the method")
    preset: str = Field("", description="file studies/presets/<method>/<preset>.yaml, on top")
    seed: int | None = Field(None, ge=0, lt=2**31, description="of this run; null is the study's")
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(
        (), description="one run for each, pooled in the tables"
    )
    template: ScanId = Field("template", description="annotated scan that is its template")
    of: tuple[Identifier, ...] = Field((), description="runs whose landmarks it reads")
    train: int | None = Field(None, ge=1, description="annotated scans to learn from; null is all")
    train_on: str = Field("", description="run whose landmarks and segmentations it learns from")
    settings: dict[str, Any] = Field({}, description="settings of the method, on top")


class StudyConfig(Settings):
    """A whole configuration, as in `config.yaml`, but for the methods' own settings."""

    study: Identifier = Field(description="name, and folder under results/")
    base: str = Field("", description="study file beside this one, of which this is a variant")
    unit: Unit = Field("mm", description="of errors: mm, px, or % of each scan's `scale`")
    seed: int = Field(
        1, ge=0, lt=2**31, description="of training, registration and bootstrap; not of the scans"
    )
    bad_scans: Literal["refuse", "set_aside"] = Field(
        "refuse",
        description="what unusable scans do: the run ends in an error after all else is done, or "
        "they are set aside",
    )
    batch_scans: int = Field(
        12,
        ge=1,
        description="scans served by one process; up to a quarter of it more join the last one",
    )
    data: DataSource = Field(description="where the scans come from; one source")
    runs: dict[Identifier, RunEntry] = Field(
        {"oneshot": RunEntry(method="oneshot")}, min_length=1, description="what is run on them"
    )
    target: TargetSettings = Field(
        TargetSettings(), description="only for a template without a segmentation"
    )
    evaluate: EvaluateSettings = Field(EvaluateSettings(), description="what is measured")
    report: ReportSettings = Field(ReportSettings(), description="the pictures and the page")

    def of_method(self, name: str) -> Settings:
        """The settings of a method, as the study states them."""
        found: Settings = getattr(self, name)
        return found


def config_model(methods: Mapping[str, type[Settings]]) -> type[StudyConfig]:
    """The model of a configuration with the settings of each method under its name."""
    fields: Any = {
        name: (model, Field(model(), description=(model.__doc__ or "").split("\n")[0].rstrip(".")))
        for name, model in methods.items()
    }
    return create_model("Study", __base__=StudyConfig, __doc__=StudyConfig.__doc__, **fields)


def load_config(raw: Mapping[str, Any], methods: Mapping[str, type[Settings]]) -> StudyConfig:
    """Check a configuration.

    Args:
        raw: as read from its file.
        methods: the settings' model of each method.

    Raises:
        InputError: An unknown key, a missing key, or a value of the wrong type or range; the
            message names the first such key, what was found and what was expected.
    """
    try:
        return config_model(methods).model_validate(raw)
    except ValidationError as error:
        raise InputError(f"config: {explain(error)}") from None
