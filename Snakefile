"""From one annotated scan to landmarks in all scans of a study, and to Table 1."""

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/oneshot.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"


if FURTHER_TEMPLATES:

    include: "workflow/rules/templates.smk"


if "seeds" in config:

    include: "workflow/rules/ablation.smk"


localrules:
    all,


rule all:
    """The study's landmarks, its tables and its report."""
    default_target: True
    input:
        expand(RESULTS / "landmarks/{scan}.mrk.json", scan=STUDY.scans),
        RESULTS / "samples.tsv",
        RESULTS / "provenance.json",
        RESULTS / "evaluation/table1.md",
        RESULTS / "report.html",
        RESULTS / "checked.txt",
