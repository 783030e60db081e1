"""The method `dualhead`: one U-Net with two heads, in a coarse and a fine pass, a network a fold.

What each stage reads and writes is said in landmarkflow/methods/dualhead/stages.py. A run learns
from the study's annotated scans, or, with `train_on`, from what another run found in the others.
"""

from landmarkflow.learning.folds import networks
from landmarkflow.methods.dualhead import stages as dualhead

NETWORKS = networks(CONFIG.data.folds)
LEARNING = [run for run in STUDY.runs.values() if run.method == "dualhead"]
if CONFIG.data.folds and not STUDY.training and not all(r.train_on for r in LEARNING):
    raise SystemExit(
        f"landmarkflow: config: `data.folds` is {CONFIG.data.folds}, expected annotated scans to "
        "learn from beside the template, or 0"
    )


GATHERED = FLOW.reads(dualhead.GATHER, FLOW.learned)
# The folds follow from scans, groups, folds and seed, which are parameters: the table is written again for
# every further scan that is evaluated, which must train nothing.
GATHERED["splits"] = ancient(GATHERED["splits"])


rule gather_examples:
    """What a run learns from: crops of the annotated scans, or of those another run annotated."""
    input:
        **GATHERED,
    output:
        **FLOW.writes(dualhead.GATHER),
    log:
        FLOW.log(dualhead.GATHER),
    conda:
        "../../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    params:
        **FLOW.decides(dualhead.GATHER, FLOW.learned),
    shell:
        FLOW.command(dualhead.GATHER)


for network in NETWORKS:

    rule:
        """The networks of both passes, trained without the scans of one fold."""
        name:
            f"train_dualhead_{network}"
        input:
            **FLOW.reads(dualhead.TRAIN, [network]),
        output:
            **FLOW.writes(dualhead.TRAIN, [network]),
        log:
            FLOW.log(dualhead.TRAIN, network),
        benchmark:
            FLOW.benchmark(dualhead.TRAIN, network)
        priority: 50
        conda:
            "../../../envs/torch.yaml"
        # Weights depend on the number of threads, which --cores 1 would cut down.
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(240),
            gpu=1,
        params:
            **FLOW.decides(dualhead.TRAIN, [network]),
        shell:
            FLOW.command(dualhead.TRAIN)


rule calibrate_dualhead:
    """Errors on the scans that networks never saw, and from them the radii."""
    input:
        **FLOW.reads(dualhead.CALIBRATE, NETWORKS),
    output:
        **FLOW.writes(dualhead.CALIBRATE),
    log:
        FLOW.log(dualhead.CALIBRATE),
    conda:
        "../../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
        gpu=1,
    params:
        **FLOW.decides(dualhead.CALIBRATE, NETWORKS),
    shell:
        FLOW.command(dualhead.CALIBRATE)


for batch, scans in STUDY.batches.items():

    rule:
        """Landmarks, radii and labels of a batch of scans, by all networks together."""
        name:
            f"predict_dualhead_{batch}"
        input:
            **FLOW.reads(dualhead.PREDICT, scans),
        output:
            **FLOW.writes(dualhead.PREDICT, scans),
        log:
            FLOW.log(dualhead.PREDICT, batch),
        benchmark:
            FLOW.benchmark(dualhead.PREDICT, batch)
        conda:
            "../../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(10 + 2 * len(scans)),
            gpu=1,
        params:
            **FLOW.decides(dualhead.PREDICT, scans),
        shell:
            FLOW.command(dualhead.PREDICT)
