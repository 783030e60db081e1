"""The stages of the one-shot method: what each reads, writes and is set by."""

from collections.abc import Mapping
from typing import Any

from landmarkflow.core.records import TEMPLATE
from landmarkflow.data.stages import REFERENCES, SCANS, TARGET
from landmarkflow.engine.method import Method
from landmarkflow.engine.stage import Stage
from landmarkflow.methods.oneshot.settings import OneShotSettings

PACKAGE = "landmarkflow.methods.oneshot"
# In a run the template may be any annotated scan; in its folder that scan goes by one name.
SHARED, OWN = "{template}", TEMPLATE


def _symmetrises(settings: Mapping[str, Any]) -> bool:
    return bool(settings["symmetrise"]["enabled"])


def _votes(settings: Mapping[str, Any]) -> bool:
    return bool(settings["vote"]["peers"])


def _voters(settings: Mapping[str, Any]) -> int:
    """One scan more than vote on each, since none votes on itself."""
    return int(settings["vote"]["peers"]) + 1 if _votes(settings) else 0


def _surveys(settings: Mapping[str, Any]) -> bool:
    """Whether the template decides how scans are normalised or located."""
    locate, greys = (settings[name].get("method") for name in ("locate", "normalise"))
    return locate == "auto" or greys in ("auto", "histogram")


SURVEY = Stage(
    "survey",
    "survey_template",
    f"{PACKAGE}.survey",
    "how grey values are normalised and regions found, as the template allows",
    reads={**SCANS.gives("record"), **TARGET.gives("target")},
    writes={"survey": "work/survey/survey.json"},
    settings=("normalise", "locate", "labels", "largest_gib"),
    columns=("image", "series"),
)
IF_SURVEYED = {"survey": _surveys}
LOCATE = Stage(
    "locate",
    "locate_regions",
    f"{PACKAGE}.locate",
    "intensities to [0, 1] (Eq. 8), candidate regions and the crop around them (Eq. 1)",
    reads={**SCANS.gives("record"), **SURVEY.gives("survey")},
    writes={"region": "work/locate/{scan}.nii.gz", "record": "work/locate/{scan}.json"},
    settings=("normalise", "locate", "largest_gib"),
    columns=("image", "series"),
    only_if=IF_SURVEYED,
)
TRAIN = Stage(
    "train",
    "train_network",
    f"{PACKAGE}.train",
    "the U-Net, trained on the one annotated scan (Algorithm 1)",
    reads={
        **TARGET.gives("target", of=SHARED),
        **LOCATE.gives("region", "record", of=SHARED),
        **SURVEY.gives("survey"),
    },
    writes={
        "weights": "{run}/work/train/weights.npz",
        "history": "{run}/work/train/training.csv",
        "training": "{run}/work/train/training.json",
    },
    # Those of `locate` say whether any scan is left that training is for.
    settings=("train", "seed", "labels", *LOCATE.settings),
    only_if=IF_SURVEYED,
)
CENTRE = Stage(
    "centre",
    "centre_targets",
    f"{PACKAGE}.centre",
    "the target's centre, iterated from three views (Algorithm 2)",
    reads={**TRAIN.gives("weights"), **LOCATE.gives("region", "record")},
    writes={
        "centred": "{run}/work/centre/{scan}.nii.gz",
        "probability": "{run}/work/centre/{scan}.probability.nii.gz",
        "record": "{run}/work/centre/{scan}.json",
    },
    settings=("centre", "train"),
    after="locate_record",
)
# What several stages read of the template: its target and its crop.
CROP = {
    **TARGET.gives("target", of=SHARED),
    **CENTRE.gives("centred", of=OWN),
}
ALIGN = Stage(
    "align",
    "align_scans",
    f"{PACKAGE}.align",
    "moments of inertia, then rigid registration (Eq. 2 and 3)",
    reads={
        **CROP,
        **CENTRE.gives("probability", "record", of=OWN),
        **LOCATE.gives("record", of=SHARED),
        **LOCATE.gives("region", "record"),
        **CENTRE.gives("centred", "probability", "record"),
    },
    writes={
        "crop": "{run}/work/align/{scan}.nii.gz",
        "rigid": "{run}/work/align/{scan}.tfm",
        "moments": "{run}/work/align/{scan}.moments.tfm",
        "record": "{run}/work/align/{scan}.json",
    },
    settings=("align", "centre", "labels"),
    columns=("side",),
    after="centre_record",
)
DEFORM = Stage(
    "deform",
    "deform_scans",
    f"{PACKAGE}.deform",
    "affine and B-spline registration (Eq. 5 and 6)",
    reads={
        **CROP,
        **LOCATE.gives("record"),
        **ALIGN.gives("crop", "rigid", "record"),
    },
    writes={
        "bspline": "{run}/work/deform/{scan}.tfm",
        "record": "{run}/work/deform/{scan}.json",
    },
    settings=("deform", "seed", "labels"),
    after="align_record",
)
SYMMETRISE = Stage(
    "symmetrise",
    "symmetrise_landmarks",
    f"{PACKAGE}.symmetrise",
    "the template's landmarks, evened out by their left-right symmetry",
    reads={
        **REFERENCES.gives("reference", of=SHARED),
        **DEFORM.gives("bspline", "record", of=OWN),
    },
    writes={
        "symmetrised": f"{{run}}/work/symmetrise/{OWN}.mrk.json",
        "record": f"{{run}}/work/symmetrise/{OWN}.json",
    },
    settings=("symmetrise",),
)
ANNOTATED = {**REFERENCES.gives("reference", of=SHARED), **SYMMETRISE.gives("symmetrised")}
IF_SYMMETRIC = {"symmetrised": _symmetrises}
REGISTERED = {**ALIGN.gives("crop", "rigid"), **DEFORM.gives("bspline")}
VOTE = Stage(
    "vote",
    "vote_landmarks",
    f"{PACKAGE}.vote",
    "a few scans' votes on the landmarks of the others, each by its own registration",
    reads={**CROP, **ANNOTATED, **REGISTERED, **DEFORM.gives("record")},
    writes={"voted": "{run}/work/vote/{scan}.mrk.json", "record": "{run}/work/vote/{scan}.json"},
    settings=("vote", "deform", "seed", "labels", "symmetrise"),
    after="deform_record",
    peers={**REGISTERED, **DEFORM.gives("record")},
    peer_count=_voters,
    only_if=IF_SYMMETRIC,
)
REFINE = Stage(
    "refine",
    "refine_landmarks",
    f"{PACKAGE}.refine",
    "the template's landmarks in each scan, each fitted once more by the voxels around it",
    reads={
        **ANNOTATED,
        **CENTRE.gives("centred", of=OWN),
        **LOCATE.gives("record"),
        **ALIGN.gives("crop"),
        **DEFORM.gives("bspline", "record"),
        **VOTE.gives("voted"),
    },
    writes={
        "refined": "{run}/work/refine/{scan}.mrk.json",
        "record": "{run}/work/refine/{scan}.json",
    },
    settings=("refine", "vote", "symmetrise"),
    after="deform_record",
    only_if={**IF_SYMMETRIC, "voted": _votes},
)
CLOSE = Stage(
    "close",
    "close_loops",
    f"{PACKAGE}.close",
    "the first scans registered back to the template, which says how far errors reach",
    reads={
        **CROP,
        **ANNOTATED,
        **ALIGN.gives("crop", "rigid"),
        **DEFORM.gives("record"),
        **REFINE.gives("refined", "record"),
    },
    writes={"calibration": "{run}/calibration.json"},
    settings=("close", "deform", "refine", "seed", "labels", "symmetrise"),
    only_if=IF_SYMMETRIC,
)
PLACE = Stage(
    "place",
    "place_landmarks",
    f"{PACKAGE}.place",
    "the landmarks as Slicer markups, step by step, with a radius for each final one",
    reads={
        **ANNOTATED,
        **LOCATE.gives("record", of=SHARED),
        **CENTRE.gives("centred", "record", of=OWN),
        **TRAIN.gives("training"),
        **CLOSE.gives("calibration"),
        **LOCATE.gives("record"),
        **CENTRE.gives("record"),
        **ALIGN.gives("crop", "moments", "rigid", "record"),
        **DEFORM.gives("bspline", "record"),
        **VOTE.gives("voted"),
        **REFINE.gives("refined", "record"),
    },
    writes={
        "landmarks": "{run}/landmarks/{scan}.mrk.json",
        "steps": "{run}/landmarks/{scan}.steps.mrk.json",
        "record": "{run}/landmarks/{scan}.json",
    },
    settings=("place", "vote", "symmetrise"),
    after="refine_record",
    only_if={**IF_SYMMETRIC, "voted": _votes},
)
SEGMENT = Stage(
    "segment",
    "segment_scans",
    f"{PACKAGE}.segment",
    "the template's labels, warped into each scan",
    reads={
        **TARGET.gives("target", of=SHARED),
        **LOCATE.gives("record"),
        **DEFORM.gives("bspline", "record"),
    },
    writes={
        "found": "{run}/segmentations/{scan}.nii.gz",
        "record": "{run}/work/segment/{scan}.json",
    },
    settings=("segment",),
    after="deform_record",
)
PANEL = Stage(
    "panel",
    "draw_panels",
    f"{PACKAGE}.panel",
    "a picture of the way: the centre step by step, template and scan after each registration",
    reads={
        **CENTRE.gives("centred", of=OWN),
        **LOCATE.gives("region", "record"),
        **CENTRE.gives("record"),
        **ALIGN.gives("crop", "rigid"),
        **DEFORM.gives("bspline"),
        **PLACE.gives("landmarks", "steps", "record"),
    },
    writes={
        "panel": "{run}/panels/{scan}.webp",
        "record": "{run}/panels/{scan}.json",
    },
    settings=("centre",),
    after="place_record",
)
METHOD = Method(
    "oneshot",
    OneShotSettings,
    (
        *(SURVEY, LOCATE, TRAIN, CENTRE, ALIGN, DEFORM, SYMMETRISE, VOTE, REFINE, CLOSE, PLACE),
        *(SEGMENT, PANEL),
    ),
    steps={
        "region": "region alone",
        "centred": "+ centring",
        "moments": "+ moments of inertia",
        "rigid": "+ rigid registration",
        "bspline": "+ B-spline",
        "voted": "+ votes",
        "final": "+ landmark windows (final)",
    },
    shared=("normalise", "locate"),
    segments=lambda settings, given: settings.segment.enabled and given,
    histories={"the U-Net": TRAIN.writes["history"]},
    ends=(PANEL,),
    panels=PANEL,
)
