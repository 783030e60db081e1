"""The stand-in: one rule."""

from landmarkflow.methods.toy.stages import SHIFT

for batch, scans in STUDY.batches.items():

    rule:
        """The template's landmarks, moved with the mass centre of what is bright."""
        name:
            f"shift_landmarks_{batch}"
        input:
            **FLOW.reads(SHIFT, scans),
        output:
            **FLOW.writes(SHIFT, scans),
        log:
            FLOW.log(SHIFT, batch),
        conda:
            "../../../envs/imaging.yaml"
        params:
            **FLOW.decides(SHIFT, scans),
        shell:
            FLOW.command(SHIFT)
