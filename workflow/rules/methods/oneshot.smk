"""The one-shot method of Wang et al.: one rule a stage, each serving a batch of scans.

Every scan has files of its own all the same, and one whose inputs are unchanged is linked from the
store. What each stage reads and writes is said in landmarkflow/methods/oneshot/stages.py.
"""

from landmarkflow.methods.oneshot import stages as oneshot

ONESHOT_RUNS = [run for run in STUDY.runs.values() if run.method == "oneshot"]
EVENED_OUT = any(run.settings.symmetrise.enabled for run in ONESHOT_RUNS)
# The template itself is registered with its own mirror image where its landmarks are evened out.
REGISTERED = {**({TEMPLATE: (TEMPLATE,)} if EVENED_OUT else {}), **STUDY.batches}


if ONESHOT_RUNS:

    rule survey_template:
        """What the study's template tells of grey values, and of how regions are found."""
        input:
            **FLOW.reads(oneshot.SURVEY, TEMPLATES[:1]),
        output:
            **FLOW.writes(oneshot.SURVEY),
        log:
            FLOW.log(oneshot.SURVEY),
        priority: 100
        conda:
            "../../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(5),
        params:
            **FLOW.decides(oneshot.SURVEY, TEMPLATES[:1]),
        shell:
            FLOW.command(oneshot.SURVEY)


for batch, scans in PREPARED.items():

    rule:
        """Intensities to [0, 1] (Eq. 8), candidate regions and the crop around them (Eq. 1)."""
        name:
            f"locate_regions_{batch}"
        input:
            **FLOW.reads(oneshot.LOCATE, scans),
        output:
            **FLOW.writes(oneshot.LOCATE, scans),
        log:
            FLOW.log(oneshot.LOCATE, batch),
        conda:
            "../../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(5 + len(scans)),
        params:
            **FLOW.decides(oneshot.LOCATE, scans),
        shell:
            FLOW.command(oneshot.LOCATE)


rule train_network:
    """The U-Net, trained on the one annotated scan (Algorithm 1)."""
    input:
        **FLOW.reads(oneshot.TRAIN),
    output:
        **FLOW.writes(oneshot.TRAIN),
    log:
        FLOW.log(oneshot.TRAIN),
    benchmark:
        FLOW.benchmark(oneshot.TRAIN)
    priority: 50
    conda:
        "../../../envs/torch.yaml"
    # Weights depend on the number of threads, which --cores 1 would cut down.
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
        gpu=1,
    params:
        **FLOW.decides(oneshot.TRAIN),
    shell:
        FLOW.command(oneshot.TRAIN)


for batch, scans in {TEMPLATE: (TEMPLATE,), **STUDY.batches}.items():

    rule:
        """The target's centre in a batch of scans, iterated from three views (Algorithm 2)."""
        name:
            f"centre_targets_{batch}"
        input:
            **FLOW.reads(oneshot.CENTRE, scans),
        output:
            **FLOW.writes(oneshot.CENTRE, scans),
        log:
            FLOW.log(oneshot.CENTRE, batch),
        benchmark:
            FLOW.benchmark(oneshot.CENTRE, batch)
        conda:
            "../../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(5 + len(scans)),
            gpu=1,
        params:
            **FLOW.decides(oneshot.CENTRE, scans),
        shell:
            FLOW.command(oneshot.CENTRE)


for batch, scans in REGISTERED.items():

    rule:
        """Moments of inertia, then rigid registration, for a batch of scans (Eq. 2 and 3)."""
        name:
            f"align_scans_{batch}"
        input:
            **FLOW.reads(oneshot.ALIGN, scans),
        output:
            **FLOW.writes(oneshot.ALIGN, scans),
        log:
            FLOW.log(oneshot.ALIGN, batch),
        group:
            f"register_{batch}"
        conda:
            "../../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(5 + len(scans)),
        params:
            **FLOW.decides(oneshot.ALIGN, scans),
        shell:
            FLOW.command(oneshot.ALIGN)

    rule:
        """Affine and B-spline registration of a batch of scans (Eq. 5 and 6)."""
        name:
            f"deform_scans_{batch}"
        input:
            **FLOW.reads(oneshot.DEFORM, scans),
        output:
            **FLOW.writes(oneshot.DEFORM, scans),
        log:
            FLOW.log(oneshot.DEFORM, batch),
        benchmark:
            FLOW.benchmark(oneshot.DEFORM, batch)
        group:
            f"register_{batch}"
        conda:
            "../../../envs/elastix.yaml"
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(10 + 2 * len(scans)),
        params:
            **FLOW.decides(oneshot.DEFORM, scans),
        shell:
            FLOW.command(oneshot.DEFORM)


include: "oneshot_landmarks.smk"
