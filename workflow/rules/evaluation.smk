"""Errors, success rates and tables of all scans with a reference."""

TABLES = ["errors.csv", "landmarks.csv", "summary.json", "failures.csv"]
TABLES += ["table1.csv", "table1.md", "table1.tex"]
if CONFIG.evaluate.published:
    TABLES += ["comparison.csv", "comparison.md", "published.csv"]
# Of several templates the last record says whether enough of them are beyond doubt.
DOUBTING = [] if FURTHER_TEMPLATES else ["centred", "rigid", "bspline", "refined"]
STAGES = ["references", "foi", *DOUBTING, "landmarks"]


rule evaluate_landmarks:
    """Table 1, errors, success rates and failures."""
    input:
        landmarks=for_scans("landmarks/{scan}.mrk.json", STUDY.scans),
        references=for_scans("references/{scan}.mrk.json", STUDY.scans),
        records=expand(
            RESULTS / "{stage}" / "{scan}.json", stage=STAGES, scan=STUDY.scans
        ),
    output:
        [RESULTS / "evaluation" / table for table in TABLES],
    log:
        RESULTS / "logs/evaluate_landmarks.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        folder=RESULTS / "evaluation",
        scans=list(STUDY.scans),
        settings=settings(CONFIG.evaluate),
        seed=CONFIG.seed,
        code=code("evaluate_landmarks"),
    shell:
        command("evaluate_landmarks")
        + " --settings {params.settings:q} --seed {params.seed}"
        " --scans {params.scans} --landmarks {input.landmarks} --references {input.references}"
        " --records {input.records} --folder {params.folder}"


rule check_scans:
    """The run ends in an error where scans were refused, unless the study sets such scans aside."""
    input:
        # Everything else first: one bad scan takes nothing from the others.
        page=RESULTS / "report.html",
        records=expand(
            RESULTS / "{stage}" / "{scan}.json",
            stage=["references", "foi"],
            scan=STUDY.scans,
        ),
    output:
        checked=RESULTS / "checked.txt",
    log:
        RESULTS / "logs/check_scans.log",
    retries: 0
    localrule: True
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=300,
        runtime=5,
    params:
        bad_scans=CONFIG.bad_scans,
        code=code("check_scans"),
    shell:
        command("check_scans") + " --bad-scans {params.bad_scans}"
        " --records {input.records} --checked {output.checked}"
