"""The one-shot method's second half: from registered scans to landmarks, radii and segmentations."""

# The radii are calibrated on the first scans that no stage doubts, of a dozen more than are
# wanted: scans that come later do not run it again.
LOOPED = STUDY.teaching[
    : 12 + max((run.settings.close.loops for run in ONESHOT_RUNS), default=0)
]
# A run with votes waits for the scans that vote, which no job of one batch can do.
SETTLE = "settle" if FLOW.first(oneshot.VOTE) else "register"


if EVENED_OUT:

    rule symmetrise_landmarks:
        """The template's landmarks, evened out by their left-right symmetry."""
        input:
            **FLOW.reads(oneshot.SYMMETRISE),
        output:
            **FLOW.writes(oneshot.SYMMETRISE),
        log:
            FLOW.log(oneshot.SYMMETRISE),
        group:
            f"register_{TEMPLATE}"
        conda:
            "../../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(5),
        params:
            **FLOW.decides(oneshot.SYMMETRISE),
        shell:
            FLOW.command(oneshot.SYMMETRISE)


for batch, scans in STUDY.batches.items():

    rule:
        """A few scans' votes on the landmarks of a batch, each by its own registration."""
        name:
            f"vote_landmarks_{batch}"
        input:
            **FLOW.reads(oneshot.VOTE, scans),
        output:
            **FLOW.writes(oneshot.VOTE, scans),
        log:
            FLOW.log(oneshot.VOTE, batch),
        benchmark:
            FLOW.benchmark(oneshot.VOTE, batch)
        group:
            f"{SETTLE}_{batch}"
        conda:
            "../../../envs/elastix.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=growing(10 + 8 * len(scans)),
        params:
            **FLOW.decides(oneshot.VOTE, scans),
        shell:
            FLOW.command(oneshot.VOTE)

    rule:
        """The template's landmarks in a batch of scans, each fitted once more by its window."""
        name:
            f"refine_landmarks_{batch}"
        input:
            **FLOW.reads(oneshot.REFINE, scans),
        output:
            **FLOW.writes(oneshot.REFINE, scans),
        log:
            FLOW.log(oneshot.REFINE, batch),
        group:
            f"{SETTLE}_{batch}"
        conda:
            "../../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(5 + len(scans)),
        params:
            **FLOW.decides(oneshot.REFINE, scans),
        shell:
            FLOW.command(oneshot.REFINE)

    rule:
        """The landmarks of a batch of scans as Slicer markups, step by step, with their radii."""
        name:
            f"place_landmarks_{batch}"
        input:
            **FLOW.reads(oneshot.PLACE, scans),
        output:
            **FLOW.writes(oneshot.PLACE, scans),
        log:
            FLOW.log(oneshot.PLACE, batch),
        group:
            f"finish_{batch}"
        conda:
            "../../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(5 + len(scans)),
        params:
            **FLOW.decides(oneshot.PLACE, scans),
        shell:
            FLOW.command(oneshot.PLACE)

    rule:
        """The template's labels, warped into a batch of scans."""
        name:
            f"segment_scans_{batch}"
        input:
            **FLOW.reads(oneshot.SEGMENT, scans),
        output:
            **FLOW.writes(oneshot.SEGMENT, scans),
        log:
            FLOW.log(oneshot.SEGMENT, batch),
        group:
            f"register_{batch}"
        conda:
            "../../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(5 + len(scans)),
        params:
            **FLOW.decides(oneshot.SEGMENT, scans),
        shell:
            FLOW.command(oneshot.SEGMENT)

    rule:
        """The way of a batch of scans as pictures, which the report shows."""
        name:
            f"draw_panels_{batch}"
        input:
            **FLOW.reads(oneshot.PANEL, scans),
        output:
            **FLOW.writes(oneshot.PANEL, scans),
        log:
            FLOW.log(oneshot.PANEL, batch),
        group:
            f"finish_{batch}"
        conda:
            "../../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(5 + len(scans)),
        params:
            **FLOW.decides(oneshot.PANEL, scans),
        shell:
            FLOW.command(oneshot.PANEL)


rule close_loops:
    """The first scans that no stage doubts, registered back: how far errors reach."""
    input:
        **FLOW.reads(oneshot.CLOSE, LOOPED),
    output:
        # Kept with the run: what is there and fits stays, so that radii keep their bytes.
        calibration=update(FLOW.writes(oneshot.CLOSE)["calibration"]),
    log:
        FLOW.log(oneshot.CLOSE),
    benchmark:
        FLOW.benchmark(oneshot.CLOSE)
    conda:
        "../../../envs/elastix.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        **FLOW.decides(oneshot.CLOSE, LOOPED),
    shell:
        FLOW.command(oneshot.CLOSE)
