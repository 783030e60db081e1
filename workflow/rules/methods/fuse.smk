"""Several runs' landmarks as one list: few-shot, where each of them has another template."""

from landmarkflow.methods.fuse import stages as fuse

for batch, scans in STUDY.batches.items():

    rule:
        """One list of landmarks of those that several runs found in a batch of scans."""
        name:
            f"fuse_landmarks_{batch}"
        input:
            **FLOW.reads(fuse.FUSE, scans),
        output:
            **FLOW.writes(fuse.FUSE, scans),
        log:
            FLOW.log(fuse.FUSE, batch),
        group:
            f"finish_{batch}"
        conda:
            "../../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(5),
        params:
            **FLOW.decides(fuse.FUSE, scans),
        shell:
            FLOW.command(fuse.FUSE)
