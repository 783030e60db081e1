"""The stand-in that learns: two rules."""

from landmarkflow.methods.learner import stages as learner


rule average_offsets:
    """Mean offset of each landmark from the middle of what is bright, by fold."""
    input:
        **FLOW.reads(learner.AVERAGE, FLOW.learned),
    output:
        **FLOW.writes(learner.AVERAGE),
    log:
        FLOW.log(learner.AVERAGE),
    conda:
        "../../../envs/imaging.yaml"
    params:
        **FLOW.decides(learner.AVERAGE, FLOW.learned),
    shell:
        FLOW.command(learner.AVERAGE)


for batch, scans in STUDY.batches.items():

    rule:
        """Each landmark at its mean offset, learned from other folds."""
        name:
            f"predict_points_{batch}"
        input:
            **FLOW.reads(learner.PREDICT, scans),
        output:
            **FLOW.writes(learner.PREDICT, scans),
        log:
            FLOW.log(learner.PREDICT, batch),
        conda:
            "../../../envs/imaging.yaml"
        params:
            **FLOW.decides(learner.PREDICT, scans),
        shell:
            FLOW.command(learner.PREDICT)
