"""The method `zoomin`: coarse to fine in pictures, a network a fold.

What each stage reads and writes is said in landmarkflow/methods/zoomin/stages.py.
"""

from landmarkflow.learning.folds import networks
from landmarkflow.methods.zoomin import stages as zoomin

ZOOM_NETWORKS = networks(CONFIG.data.folds)
PICTURES_LEARNED = FLOW.reads(zoomin.GATHER, FLOW.learned)
if "splits" in PICTURES_LEARNED:
    # The folds follow from pictures, folds and seed, which are parameters: the table is written
    # again for every further picture that is evaluated, which must train nothing.
    PICTURES_LEARNED["splits"] = ancient(PICTURES_LEARNED["splits"])


rule gather_pictures:
    """What a run learns from: the annotated pictures, laid into one frame."""
    input:
        **PICTURES_LEARNED,
    output:
        **FLOW.writes(zoomin.GATHER),
    log:
        FLOW.log(zoomin.GATHER),
    conda:
        "../../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    params:
        **FLOW.decides(zoomin.GATHER, FLOW.learned),
    shell:
        FLOW.command(zoomin.GATHER)


for network in ZOOM_NETWORKS:

    rule:
        """The coarse branch, trained without the pictures of one fold, and its misses in these."""
        name:
            f"train_coarse_{network}"
        input:
            **FLOW.reads(zoomin.COARSE, [network]),
        output:
            **FLOW.writes(zoomin.COARSE, [network]),
        log:
            FLOW.log(zoomin.COARSE, network),
        benchmark:
            FLOW.benchmark(zoomin.COARSE, network)
        priority: 60
        conda:
            "../../../envs/torch.yaml"
        # Weights depend on the number of threads, which --cores 1 would cut down.
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(120),
            gpu=1,
        params:
            **FLOW.decides(zoomin.COARSE, [network]),
        shell:
            FLOW.command(zoomin.COARSE)


rule pool_misses:
    """The misses of all coarse branches in one file."""
    input:
        **FLOW.reads(zoomin.POOL, ZOOM_NETWORKS),
    output:
        **FLOW.writes(zoomin.POOL),
    log:
        FLOW.log(zoomin.POOL),
    conda:
        "../../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(5),
    params:
        **FLOW.decides(zoomin.POOL, ZOOM_NETWORKS),
    shell:
        FLOW.command(zoomin.POOL)


for network in ZOOM_NETWORKS:

    rule:
        """The network that looks closer, trained without the pictures of one fold."""
        name:
            f"train_zoomin_{network}"
        input:
            **FLOW.reads(zoomin.TRAIN, [network]),
        output:
            **FLOW.writes(zoomin.TRAIN, [network]),
        log:
            FLOW.log(zoomin.TRAIN, network),
        benchmark:
            FLOW.benchmark(zoomin.TRAIN, network)
        priority: 50
        conda:
            "../../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(240),
            gpu=1,
        params:
            **FLOW.decides(zoomin.TRAIN, [network]),
        shell:
            FLOW.command(zoomin.TRAIN)


rule calibrate_zoomin:
    """Errors on the pictures that networks never saw, and from them the radii."""
    input:
        **FLOW.reads(zoomin.CALIBRATE, ZOOM_NETWORKS),
    output:
        **FLOW.writes(zoomin.CALIBRATE),
    log:
        FLOW.log(zoomin.CALIBRATE),
    conda:
        "../../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
        gpu=1,
    params:
        **FLOW.decides(zoomin.CALIBRATE, ZOOM_NETWORKS),
    shell:
        FLOW.command(zoomin.CALIBRATE)


for batch, scans in STUDY.batches.items():

    rule:
        """Landmarks and radii of a batch of pictures, by the networks that never saw them."""
        name:
            f"zoom_landmarks_{batch}"
        input:
            **FLOW.reads(zoomin.ZOOM, scans),
        output:
            **FLOW.writes(zoomin.ZOOM, scans),
        log:
            FLOW.log(zoomin.ZOOM, batch),
        benchmark:
            FLOW.benchmark(zoomin.ZOOM, batch)
        conda:
            "../../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(10 + 2 * len(scans)),
            gpu=1,
        params:
            **FLOW.decides(zoomin.ZOOM, scans),
        shell:
            FLOW.command(zoomin.ZOOM)
