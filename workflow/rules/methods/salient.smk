"""The method `salient`: landmarks that people look at, discovered from gaze (Droste et al. 2020).

What each stage reads and writes is said in landmarkflow/methods/salient/stages.py. Clusters are
those of the pictures learned from, so that a further picture changes no other's landmarks.
"""

from landmarkflow.learning.folds import networks
from landmarkflow.methods.salient import stages as salient

SALIENT_NETWORKS = networks(CONFIG.data.folds)


rule map_gaze:
    """What a run learns from: pictures, where observers looked at them, annotated structures."""
    input:
        **FLOW.reads(salient.GAZE, FLOW.learned),
    output:
        **FLOW.writes(salient.GAZE),
    log:
        FLOW.log(salient.GAZE),
    conda:
        "../../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(15),
    params:
        **FLOW.decides(salient.GAZE, FLOW.learned),
    shell:
        FLOW.command(salient.GAZE)


for network in SALIENT_NETWORKS:

    rule:
        """From a picture to the density of where people look, without the pictures of one fold."""
        name:
            f"train_saliency_{network}"
        input:
            **FLOW.reads(salient.TRAIN, [network]),
        output:
            **FLOW.writes(salient.TRAIN, [network]),
        log:
            FLOW.log(salient.TRAIN, network),
        benchmark:
            FLOW.benchmark(salient.TRAIN, network)
        priority: 50
        conda:
            "../../../envs/torch.yaml"
        # Weights depend on the number of threads, which --cores 1 would cut down.
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(120),
            gpu=1,
        params:
            **FLOW.decides(salient.TRAIN, [network]),
        shell:
            FLOW.command(salient.TRAIN)


rule cluster_landmarks:
    """Clusters of the features of landmarks in the pictures learned from, and their names."""
    input:
        **FLOW.reads(salient.CLUSTER, SALIENT_NETWORKS),
    output:
        **FLOW.writes(salient.CLUSTER, SALIENT_NETWORKS),
    log:
        FLOW.log(salient.CLUSTER),
    conda:
        "../../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
        gpu=1,
    params:
        **FLOW.decides(salient.CLUSTER, SALIENT_NETWORKS),
    shell:
        FLOW.command(salient.CLUSTER)


for batch, scans in STUDY.batches.items():

    rule:
        """Where people would look at the pictures of a batch, and the features of the cells."""
        name:
            f"predict_saliency_{batch}"
        input:
            **FLOW.reads(salient.PREDICT, scans),
        output:
            **FLOW.writes(salient.PREDICT, scans),
        log:
            FLOW.log(salient.PREDICT, batch),
        benchmark:
            FLOW.benchmark(salient.PREDICT, batch)
        conda:
            "../../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(5 + len(scans)),
            gpu=1,
        params:
            **FLOW.decides(salient.PREDICT, scans),
        shell:
            FLOW.command(salient.PREDICT)

    rule:
        """Landmarks of the pictures of a batch: maxima of their maps, with names."""
        name:
            f"discover_landmarks_{batch}"
        input:
            **FLOW.reads(salient.DISCOVER, scans),
        output:
            **FLOW.writes(salient.DISCOVER, scans),
        log:
            FLOW.log(salient.DISCOVER, batch),
        conda:
            "../../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(5 + len(scans)),
        params:
            **FLOW.decides(salient.DISCOVER, scans),
        shell:
            FLOW.command(salient.DISCOVER)


rule align_pairs:
    """The alignment table: every pair of pictures of a group, by landmarks and by baselines."""
    input:
        **FLOW.reads(salient.ALIGN, tuple(STUDY.scans)),
    output:
        **in_report(
            FLOW.writes(salient.ALIGN, tuple(STUDY.scans)),
            alignment="Alignment",
            coverage="Alignment",
        ),
    log:
        FLOW.log(salient.ALIGN),
    benchmark:
        FLOW.benchmark(salient.ALIGN)
    conda:
        "../../../envs/elastix.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        **FLOW.decides(salient.ALIGN, tuple(STUDY.scans)),
    shell:
        FLOW.command(salient.ALIGN)


rule judge_saliency:
    """How well the maps say where observers look, beside a centre bias and other observers."""
    input:
        **FLOW.reads(salient.JUDGE, tuple(STUDY.scans)),
    output:
        **in_report(FLOW.writes(salient.JUDGE, tuple(STUDY.scans)), metrics="Saliency"),
    log:
        FLOW.log(salient.JUDGE),
    conda:
        "../../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10 + len(STUDY.scans) // 20),
    params:
        **FLOW.decides(salient.JUDGE, tuple(STUDY.scans)),
    shell:
        FLOW.command(salient.JUDGE)


rule draw_saliency:
    """Some pictures with their maps and landmarks, some aligned pairs, the choice of clusters."""
    input:
        **FLOW.reads(salient.DRAW, tuple(STUDY.scans)),
    output:
        **in_report(
            FLOW.writes(salient.DRAW, tuple(STUDY.scans)),
            discovered="Saliency",
            aligned="Alignment",
            clusters_chosen="Saliency",
        ),
    log:
        FLOW.log(salient.DRAW),
    conda:
        "../../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **FLOW.decides(salient.DRAW, tuple(STUDY.scans)),
    shell:
        FLOW.command(salient.DRAW)
