"""From annotated scans to landmarks in all scans of a study, its tables and its report."""

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"


for method in dict.fromkeys(run.method for run in STUDY.runs.values()):

    include: f"workflow/rules/methods/{method}.smk"


include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"


localrules:
    all,


rule all:
    """Every run's landmarks, tables and pictures, all runs side by side, and the report."""
    default_target: True
    input:
        FLOW.every("{run}/landmarks/{scan}.mrk.json"),
        FLOW.every("{run}/landmarks.csv"),
        FLOW.ends(),
        RESULTS / "samples.tsv",
        RESULTS / "comparison.md",
        RESULTS / "provenance.json",
        RESULTS / "report.html",
        RESULTS / "work/check/checked.txt",
        # A scan that is learned from must not be one that is evaluated.
        FLOW.writes(data.SPLITS)["splits"] if STUDY.taught else [],
