"""The stages that all runs of a study share: scans, references and segmentations as given."""

from landmarkflow.engine.stage import Stage

PACKAGE = "landmarkflow.data"

SIMULATE = Stage(
    "simulate",
    "simulate_scan",
    f"{PACKAGE}.simulate",
    "one scan of a simulated cohort, with its segmentation and landmarks",
    writes={
        "image": "work/data/scans/{scan}.nii.gz",
        "segmentation": "work/data/segmentations/{scan}.nii.gz",
        "landmarks": "work/data/landmarks/{scan}.mrk.json",
    },
    settings=("simulate",),
)
FETCH = Stage(
    "fetch",
    "fetch_file",
    f"{PACKAGE}.fetch",
    "one file of the study from its public origin, checked against its SHA-256",
    writes={"file": "work/data/{scan}"},
    settings=("fetch",),
)
SCANS = Stage(
    "scans",
    "digest_scans",
    f"{PACKAGE}.scans",
    "size and SHA-256 of each file of each scan: what later stages take a scan's content by",
    writes={"record": "work/scans/{scan}.json"},
    columns=("image",),
)
REFERENCES = Stage(
    "references",
    "check_references",
    f"{PACKAGE}.references",
    "landmarks as given, in LPS and in the template's order; refused where they do not fit a scan",
    reads=SCANS.gives("record"),
    writes={
        "reference": "work/references/{scan}.mrk.json",
        "record": "work/references/{scan}.json",
    },
    columns=("image", "landmarks", "frame"),
    settings=("landmarks", "largest_gib"),
)
SPLITS = Stage(
    "splits",
    "split_scans",
    f"{PACKAGE}.splits",
    "which annotated scans are learned from, and in which fold; a scan on both sides is refused",
    reads=SCANS.gives("record"),
    writes={"splits": "work/splits/splits.tsv"},
    columns=("split",),
    settings=("seed", "folds"),
)
DERIVE = Stage(
    "derive_segmentation",
    "derive_segmentation",
    f"{PACKAGE}.derive_segmentation",
    "the template's segmentation from its scan and landmarks, where none is given",
    reads=SCANS.gives("record"),
    writes={"segmentation": "work/derive_segmentation/{scan}.nii.gz"},
    columns=("image", "landmarks", "frame"),
    settings=("derive_segmentation", "largest_gib"),
)
STAGES = (SIMULATE, FETCH, SCANS, REFERENCES, SPLITS, DERIVE)
