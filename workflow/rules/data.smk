"""Scans, landmarks and segmentations: given, simulated or fetched, and checked."""

COHORT = CONFIG.data.cohort if not CONFIG.data.folder else None
ORIGIN = CONFIG.data.origin if not CONFIG.data.folder else None


localrules:
    write_sheet,


rule write_sheet:
    """The sheet of scans as this run read it."""
    output:
        sheet=RESULTS / "samples.tsv",
    log:
        RESULTS / "logs/write_sheet.log",
    params:
        sheet=write_sheet(STUDY.scans.values()),
    resources:
        mem_mb=100,
        runtime=1,
    conda:
        "../../envs/imaging.yaml"
    shell:
        "printf '%s' {params.sheet:q} > {output.sheet} 2> {log}"


if COHORT:

    def subject_number(scan: str) -> int:
        """A subject's number in the cohort; the template is 0."""
        return 0 if scan == TEMPLATE else 1 + list(STUDY.scans).index(scan)

    rule simulate_template:
        """The annotated temporal bone of the simulated cohort."""
        output:
            image=STUDY.template.image,
            landmarks=STUDY.template.landmarks,
            segmentation=STUDY.template.segmentation,
        log:
            RESULTS / "logs/simulate_scan/template.log",
        params:
            settings=settings(COHORT.anatomy),
            seed=CONFIG.seed,
            code=code("simulate_scan"),
        threads: 1
        resources:
            mem_mb=3000,
            runtime=10,
        conda:
            "../../envs/imaging.yaml"
        shell:
            command("simulate_scan") + " --settings {params.settings:q} --seed {params.seed} --number 0"
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
        params:
            settings=settings(COHORT.anatomy),
            seed=CONFIG.seed,
            number=lambda wildcards: subject_number(wildcards.scan),
            code=code("simulate_scan"),
        threads: 1
        resources:
            mem_mb=3000,
            runtime=10,
        conda:
            "../../envs/imaging.yaml"
        shell:
            command("simulate_scan") + " --settings {params.settings:q} --seed {params.seed}"
            " --number {params.number} --image {output.image}"
            " --segmentation {output.segmentation} --landmarks {output.landmarks}"


if ORIGIN:

    def origin_file(wildcards):
        """Where a file of the study comes from."""
        name = wildcards.file
        scan = TEMPLATE if name.startswith("template/") else name.split("/")[1].split(".")[0]
        source = ORIGIN.template if scan == TEMPLATE else ORIGIN.scans[scan]
        return source.image if name.endswith(".nii.gz") else source.landmarks

    rule fetch_file:
        """One file of the study from its public origin."""
        output:
            RESULTS / "data/{file}",
        log:
            RESULTS / "logs/fetch_file/{file}.log",
        wildcard_constraints:
            file=r"template/scan\.nii\.gz|template/landmarks\.mrk\.json|scans/[^/]+\.nii\.gz|landmarks/[^/]+\.mrk\.json",
        params:
            url=lambda wildcards: f"{ORIGIN.url}/{origin_file(wildcards).path}",
            sha256=lambda wildcards: origin_file(wildcards).sha256,
            code=code("fetch_file"),
        threads: 1
        resources:
            mem_mb=300,
            runtime=20,
        conda:
            "../../envs/imaging.yaml"
        shell:
            command("fetch_file") + " --url {params.url:q} --sha256 {params.sha256} --output {output}"


rule derive_segmentation:
    """The template's segmentation from its scan and landmarks, where none is given."""
    input:
        image=lambda wildcards: STUDY.template.image,
        landmarks=lambda wildcards: STUDY.template.landmarks,
    output:
        segmentation=RESULTS / "template/segmentation.nii.gz",
    log:
        RESULTS / "logs/derive_segmentation.log",
    params:
        above=CONFIG.derive_segmentation.above,
        margin_mm=CONFIG.derive_segmentation.margin_mm,
        frame=frame_option(STUDY.template.frame),
        code=code("derive_segmentation"),
    threads: 1
    resources:
        mem_mb=3000,
        runtime=10,
    conda:
        "../../envs/imaging.yaml"
    shell:
        command("derive_segmentation") + " --above {params.above} --margin-mm {params.margin_mm}"
        " {params.frame} --image {input.image:q} --landmarks {input.landmarks:q}"
        " --segmentation {output.segmentation}"


rule check_reference:
    """One scan's reference landmarks in LPS, refused when they do not fit the scan."""
    input:
        image=image_files,
        landmarks=lambda wildcards: STUDY.scans[wildcards.scan].landmarks or [],
        template=STUDY.template.landmarks,
    output:
        reference=RESULTS / "references/{scan}.mrk.json",
        record=RESULTS / "references/{scan}.json",
    log:
        RESULTS / "logs/check_reference/{scan}.log",
    params:
        image=lambda wildcards: image_of(wildcards.scan),
        landmarks=lambda wildcards, input: f"--landmarks {input.landmarks}" if input.landmarks else "",
        frame=lambda wildcards: frame_option(STUDY.scans[wildcards.scan].frame),
        template_frame=frame_option(STUDY.template.frame, "--template-frame"),
        bad_scan=CONFIG.bad_scans,
        code=code("check_reference"),
    # A reference that does not fit is told before hours are spent.
    priority: 100
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    conda:
        "../../envs/imaging.yaml"
    shell:
        command("check_reference") + " --scan {wildcards.scan} --bad-scan {params.bad_scan}"
        " --image {params.image:q} {params.landmarks} {params.frame}"
        " --template-landmarks {input.template:q} {params.template_frame}"
        " --reference {output.reference} --record {output.record}"
