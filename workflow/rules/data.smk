"""Scans, landmarks and segmentations: given, simulated or fetched, and checked."""

COHORT = CONFIG.data.cohort if not CONFIG.data.folder else None
ORIGIN = CONFIG.data.origin if not CONFIG.data.folder else None


rule write_sheet:
    """The sheet of scans as this run read it."""
    output:
        sheet=RESULTS / "samples.tsv",
    log:
        RESULTS / "logs/write_sheet.log",
    localrule: True
    conda:
        "../../envs/imaging.yaml"
    resources:
        mem_mb=100,
        runtime=1,
    params:
        sheet=write_sheet(STUDY.scans.values()),
    shell:
        "printf '%s' {params.sheet:q} > {output.sheet} 2> {log}"


if COHORT:

    rule simulate_template:
        """The annotated temporal bone of the simulated cohort."""
        output:
            image=STUDY.template.image,
            landmarks=STUDY.template.landmarks,
            segmentation=STUDY.template.segmentation,
        log:
            RESULTS / "logs/simulate_scan/template.log",
        group:
            "simulate"
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(10),
        params:
            settings=settings(COHORT.anatomy),
            seed=COHORT.seed,
            code=code("simulate_scan"),
        shell:
            command("simulate_scan")
            + " --settings {params.settings:q} --seed {params.seed} --number 0"
            " --image {output.image} --segmentation {output.segmentation}"
            " --landmarks {output.landmarks}"

    rule simulate_scan:
        """One temporal bone of the simulated cohort."""
        output:
            image=RESULTS / "data/scans/{scan}.nii.gz",
            landmarks=RESULTS / "data/landmarks/{scan}.mrk.json",
            segmentation=RESULTS / "data/segmentations/{scan}.nii.gz",
        log:
            RESULTS / "logs/simulate_scan/{scan}.log",
        group:
            "simulate"
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(10),
        params:
            settings=settings(COHORT.anatomy),
            seed=COHORT.seed,
            number=lambda wildcards: cohort_number(wildcards.scan),
            code=code("simulate_scan"),
        shell:
            command("simulate_scan")
            + " --settings {params.settings:q} --seed {params.seed}"
            " --number {params.number} --image {output.image}"
            " --segmentation {output.segmentation} --landmarks {output.landmarks}"


if ORIGIN:

    rule fetch_file:
        """One file of the study from its public origin; computing nodes may have no network."""
        output:
            RESULTS / "data/{file}",
        log:
            RESULTS / "logs/fetch_file/{file}.log",
        wildcard_constraints:
            file=r"template/scan\.nii\.gz|template/landmarks\.mrk\.json|scans/[^/]+\.nii\.gz|landmarks/[^/]+\.mrk\.json",
        localrule: True
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=300,
            runtime=20,
        params:
            url=lambda wildcards: f"{ORIGIN.url}/{origin_file(wildcards).path}",
            sha256=lambda wildcards: origin_file(wildcards).sha256,
            code=code("fetch_file"),
        shell:
            command("fetch_file")
            + " --url {params.url:q} --sha256 {params.sha256} --output {output}"


rule derive_segmentation:
    """The template's segmentation from its scan and landmarks, where none is given."""
    input:
        image=lambda wildcards: STUDY.template.image,
        landmarks=lambda wildcards: STUDY.template.landmarks,
    output:
        segmentation=RESULTS / "template/segmentation.nii.gz",
    log:
        RESULTS / "logs/derive_segmentation.log",
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(10),
    params:
        above=CONFIG.derive_segmentation.above,
        margin_mm=CONFIG.derive_segmentation.margin_mm,
        frame=frame_option(STUDY.template.frame),
        code=code("derive_segmentation"),
    shell:
        command("derive_segmentation")
        + " --above {params.above} --margin-mm {params.margin_mm}"
        " {params.frame} --image {input.image:q} --landmarks {input.landmarks:q}"
        " --segmentation {output.segmentation}"


for batch, scans in PREPARED.items():

    rule:
        """A batch's landmarks in LPS, the template's too, refused where they do not fit a scan."""
        name:
            f"check_references_{batch}"
        input:
            image=[file for scan in scans for file in scan_files(scan)],
            landmarks=[
                entry_of(scan).landmarks for scan in scans if entry_of(scan).landmarks
            ],
            template=STUDY.template.landmarks,
        output:
            reference=for_scans("references/{scan}.mrk.json", scans),
            record=for_scans("references/{scan}.json", scans),
        log:
            RESULTS / f"logs/check_references/{batch}.log",
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
            scans=scans,
            image=[image_of(scan) for scan in scans],
            landmarks=[entry_of(scan).landmarks or "none" for scan in scans],
            frames=[entry_of(scan).frame or "none" for scan in scans],
            template_frame=frame_option(STUDY.template.frame, "--template-frame"),
            required="--required" if batch == TEMPLATE else "",
            code=code("check_references"),
        shell:
            command("check_references")
            + " {params.required} --template-landmarks {input.template:q}"
            " {params.template_frame} --scans {params.scans} --image {params.image:q}"
            " --landmarks {params.landmarks:q} --frames {params.frames}"
            " --reference {output.reference} --record {output.record}"
