"""Scans, landmarks and segmentations: given, simulated or fetched, and checked."""

from landmarkflow.study.sheet import write_sheet
from landmarkflow.study.sources import cohort_number, origin_file

COHORT = CONFIG.data.cohort if not CONFIG.data.folder else None
ORIGIN = CONFIG.data.origin if not CONFIG.data.folder else None


rule write_sheet:
    """The sheet of scans as this run read it."""
    output:
        sheet=RESULTS / "samples.tsv",
    log:
        RESULTS / "work/logs/write_sheet.log",
    # Before all else: training looks in it whether any scan can be used.
    priority: 200
    localrule: True
    conda:
        "../../envs/imaging.yaml"
    resources:
        mem_mb=100,
        runtime=1,
    params:
        sheet=write_sheet([*STUDY.scans.values(), *STUDY.training.values()]),
    shell:
        "printf '%s' {params.sheet:q} > {output.sheet} 2> {log}"


if COHORT:
    SIMULATED = FLOW.values(data.SIMULATE, None)["simulate"]

    rule simulate_scan:
        """One temporal bone, or one picture, of the simulated cohort."""
        output:
            **FLOW.writes(data.SIMULATE, ["{scan}"]),
        log:
            RESULTS / "work/logs/simulate/{scan}.log",
        group:
            "simulate"
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(10),
        params:
            scans="{scan}",
            settings=lambda wildcards: as_json(
                {"simulate": SIMULATED | {"number": cohort_number(wildcards.scan)}}
            ),
            code=code_hash(data.SIMULATE.module),
        shell:
            FLOW.command(data.SIMULATE)


if ORIGIN:

    rule fetch_file:
        """One file of the study from its public origin; computing nodes may have no network."""
        output:
            **FLOW.writes(data.FETCH, ["{file}"]),
        log:
            RESULTS / "work/logs/fetch/{file}.log",
        wildcard_constraints:
            file=r"scans/[^/]+\.nii\.gz|landmarks/[^/]+\.mrk\.json",
        localrule: True
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=300,
            runtime=20,
        params:
            scans="{file}",
            settings=lambda wildcards: as_json(
                {"fetch": origin_file(ORIGIN, wildcards.file)}
            ),
            code=code_hash(data.FETCH.module),
        shell:
            FLOW.command(data.FETCH)


# A template that is learned from, too, is among the templates.
LEARNED = tuple(scan for scan in STUDY.training if scan not in STUDY.templates)
DIGESTED = {"training": LEARNED} if LEARNED else {}
for batch, scans in {**PREPARED, **DIGESTED}.items():

    rule:
        """Size and SHA-256 of each file of a batch of scans, by which later stages know them."""
        name:
            f"digest_scans_{batch}"
        input:
            **FLOW.reads(data.SCANS, scans),
        output:
            **FLOW.writes(data.SCANS, scans),
        log:
            FLOW.log(data.SCANS, batch),
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(5 + len(scans)),
        params:
            **FLOW.decides(data.SCANS, scans),
        shell:
            FLOW.command(data.SCANS)

    rule:
        """A batch's landmarks in LPS, the template's too, refused where they do not fit a scan."""
        name:
            f"check_references_{batch}"
        input:
            **FLOW.reads(data.REFERENCES, scans),
        output:
            **FLOW.writes(data.REFERENCES, scans),
        log:
            FLOW.log(data.REFERENCES, batch),
        # A reference that does not fit is told before hours are spent.
        priority: 100
        localrule: True
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=500,
            runtime=5,
        params:
            **FLOW.decides(data.REFERENCES, scans),
        shell:
            FLOW.command(data.REFERENCES)


if STUDY.taught:

    rule split_scans:
        """Which annotated scans are learned from; an evaluated scan among them is refused."""
        input:
            **FLOW.reads(data.SPLITS, (*STUDY.scans, *STUDY.training)),
        output:
            **FLOW.writes(data.SPLITS),
        log:
            FLOW.log(data.SPLITS),
        priority: 100
        localrule: True
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=300,
            runtime=5,
        params:
            **FLOW.decides(data.SPLITS, (*STUDY.scans, *STUDY.training)),
        shell:
            FLOW.command(data.SPLITS)


if TEMPLATES:

    rule prepare_targets:
        """The templates' target: the labels as given, or derived from scan and landmarks."""
        input:
            **FLOW.reads(data.TARGET, TEMPLATES),
        output:
            **FLOW.writes(data.TARGET, TEMPLATES),
        log:
            FLOW.log(data.TARGET),
        priority: 100
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(10),
        params:
            **FLOW.decides(data.TARGET, TEMPLATES),
        shell:
            FLOW.command(data.TARGET)
