"""The one-shot method of Wang et al.: one rule a stage, each serving a batch of scans in one process.

Their files are one set per scan all the same, and a scan whose inputs are unchanged is linked from
the store.
"""

ONESHOT = CONFIG.oneshot
LABELS = " ".join(map(str, CONFIG.data.labels))
ANNOTATED = RESULTS / f"references/{TEMPLATE}.mrk.json"
if ONESHOT.symmetrise.enabled:
    ANNOTATED = RESULTS / f"symmetrised/{TEMPLATE}.mrk.json"
    MIRRORED = {TEMPLATE: (TEMPLATE,)}
else:
    MIRRORED = {}
# The first scans of the study vote on the others', one more so that each has its number.
PEERS = (
    list(STUDY.scans)[: ONESHOT.consensus.peers + 1] if ONESHOT.consensus.peers else []
)
# The first scans say how far errors reach, too.
LOOP_SCANS = list(STUDY.scans)[: ONESHOT.confidence.loops]
LOOPS = {
    batch: looped
    for batch, scans in STUDY.batches.items()
    if (looped := [scan for scan in scans if scan in LOOP_SCANS])
}
# Where landmarks by this template go: beside those by others they are not the study's.
PLACED = "placed" if FURTHER_TEMPLATES else "landmarks"
# On a cluster one job registers a batch, unless it has to wait for the scans that vote on it.
SETTLE = "settle" if PEERS else "register"


for batch, scans in PREPARED.items():

    rule:
        """Intensities to [0, 1] (Eq. 8), candidate regions and the crop around them (Eq. 1)."""
        name:
            f"locate_regions_{batch}"
        input:
            image=[file for scan in scans for file in scan_files(scan)],
        output:
            region=for_scans("foi/{scan}.nii.gz", scans),
            record=for_scans("foi/{scan}.json", scans),
        log:
            RESULTS / f"logs/locate_regions/{batch}.log",
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(5 + len(scans)),
        params:
            scans=scans,
            image=[image_of(scan) for scan in scans],
            store=STORE / "locate",
            settings=settings(ONESHOT.locate),
            intensities=settings(ONESHOT.normalise),
            required="--required" if batch == TEMPLATE else "",
            code=code("locate_regions"),
        shell:
            command("locate_regions")
            + " {params.required} --settings {params.settings:q}"
            " --intensities {params.intensities:q} --scans {params.scans} --store {params.store}"
            " --image {params.image:q} --region {output.region} --record {output.record}"


rule train_network:
    """The U-Net, trained on the one annotated scan (Algorithm 1)."""
    input:
        image=scan_files(TEMPLATE),
        segmentation=SEGMENTATION,
        region=RESULTS / f"foi/{TEMPLATE}.nii.gz",
        record=RESULTS / f"foi/{TEMPLATE}.json",
    output:
        weights=RESULTS / "model/weights.npz",
        history=RESULTS / "model/training.csv",
        training=RESULTS / "model/training.json",
    log:
        RESULTS / "logs/train_network.log",
    benchmark:
        RESULTS / "benchmarks/train_network.tsv"
    priority: 50
    conda:
        "../../envs/torch.yaml"
    # Weights depend on the number of threads, which --cores 1 would cut down.
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
        gpu=1,
    params:
        image=lambda wildcards: image_of(TEMPLATE),
        settings=settings(ONESHOT.train),
        seed=CONFIG.seed,
        labels=LABELS,
        code=code("train_network"),
    shell:
        command("train_network")
        + " --settings {params.settings:q} --seed {params.seed}"
        " --threads {threads} --labels {params.labels} --image {params.image:q}"
        " --segmentation {input.segmentation:q} --region {input.region}"
        " --region-record {input.record} --weights {output.weights} --history {output.history}"
        " --training {output.training}"


for batch, scans in {TEMPLATE: (TEMPLATE,), **STUDY.batches}.items():

    rule:
        """The target's centre in a batch of scans, iterated from three views (Algorithm 2)."""
        name:
            f"centre_targets_{batch}"
        input:
            weights=RESULTS / "model/weights.npz",
            region=for_scans("foi/{scan}.nii.gz", scans),
            region_record=for_scans("foi/{scan}.json", scans),
        output:
            centred=for_scans("centred/{scan}.nii.gz", scans),
            probability=for_scans("centred/{scan}.probability.nii.gz", scans),
            record=for_scans("centred/{scan}.json", scans),
        log:
            RESULTS / f"logs/centre_targets/{batch}.log",
        benchmark:
            RESULTS / f"benchmarks/centre_targets_{batch}.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(5 + len(scans)),
            gpu=1,
        params:
            scans=scans,
            store=STORE / "centre",
            settings=settings(ONESHOT.centre),
            network=settings(ONESHOT.train.network),
            required="--required" if batch == TEMPLATE else "",
            code=code("centre_targets"),
        shell:
            command("centre_targets")
            + " {params.required} --settings {params.settings:q}"
            " --network {params.network:q} --threads {threads} --weights {input.weights}"
            " --scans {params.scans} --store {params.store} --region {input.region}"
            " --region_record {input.region_record} --centred {output.centred}"
            " --probability {output.probability} --record {output.record}"


for batch, scans in {**MIRRORED, **STUDY.batches}.items():

    rule:
        """Moments of inertia, then rigid registration, for a batch of scans (Eq. 2 and 3)."""
        name:
            f"align_scans_{batch}"
        input:
            template_segmentation=SEGMENTATION,
            template_region_record=RESULTS / f"foi/{TEMPLATE}.json",
            template_centred=RESULTS / f"centred/{TEMPLATE}.nii.gz",
            template_centred_record=RESULTS / f"centred/{TEMPLATE}.json",
            centred=for_scans("centred/{scan}.nii.gz", scans),
            centred_record=for_scans("centred/{scan}.json", scans),
            region_record=for_scans("foi/{scan}.json", scans),
        output:
            rigid=for_scans("rigid/{scan}.tfm", scans),
            moments=for_scans("rigid/{scan}.moments.tfm", scans),
            record=for_scans("rigid/{scan}.json", scans),
        log:
            RESULTS / f"logs/align_scans/{batch}.log",
        group:
            f"register_{batch}"
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(5 + len(scans)),
        params:
            scans=scans,
            hands=[hand_of(scan) for scan in scans],
            store=STORE / "align",
            settings=settings(ONESHOT.align),
            labels=LABELS,
            template_image=lambda wildcards: image_of(TEMPLATE),
            code=code("align_scans"),
        shell:
            command("align_scans")
            + " --settings {params.settings:q} --labels {params.labels}"
            " --template-image {params.template_image:q}"
            " --template-segmentation {input.template_segmentation:q}"
            " --template-centred {input.template_centred}"
            " --template-centred-record {input.template_centred_record}"
            " --template-region-record {input.template_region_record}"
            " --scans {params.scans} --hands {params.hands} --store {params.store}"
            " --centred {input.centred} --centred_record {input.centred_record}"
            " --region_record {input.region_record} --rigid {output.rigid}"
            " --moments {output.moments} --record {output.record}"

    rule:
        """Affine and B-spline registration of a batch of scans (Eq. 5 and 6)."""
        name:
            f"deform_scans_{batch}"
        input:
            template_segmentation=SEGMENTATION,
            template_centred=RESULTS / f"centred/{TEMPLATE}.nii.gz",
            centred=for_scans("centred/{scan}.nii.gz", scans),
            rigid=for_scans("rigid/{scan}.tfm", scans),
            rigid_record=for_scans("rigid/{scan}.json", scans),
        output:
            bspline=for_scans("bspline/{scan}.tfm", scans),
            record=for_scans("bspline/{scan}.json", scans),
        log:
            RESULTS / f"logs/deform_scans/{batch}.log",
        benchmark:
            RESULTS / f"benchmarks/deform_scans_{batch}.tsv"
        group:
            f"register_{batch}"
        conda:
            "../../envs/elastix.yaml"
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(10 + 2 * len(scans)),
        params:
            scans=scans,
            store=STORE / "deform",
            settings=settings(ONESHOT.deform),
            seed=CONFIG.seed,
            labels=LABELS,
            template_image=lambda wildcards: image_of(TEMPLATE),
            code=code("deform_scans"),
        shell:
            command("deform_scans")
            + " --settings {params.settings:q} --seed {params.seed}"
            " --labels {params.labels} --template-image {params.template_image:q}"
            " --template-segmentation {input.template_segmentation:q}"
            " --template-centred {input.template_centred}"
            " --scans {params.scans} --store {params.store} --centred {input.centred}"
            " --rigid {input.rigid} --rigid_record {input.rigid_record}"
            " --bspline {output.bspline} --record {output.record}"


rule symmetrise_landmarks:
    """The template's landmarks, evened out by their left-right symmetry."""
    input:
        annotated=RESULTS / f"references/{TEMPLATE}.mrk.json",
        reflection=RESULTS / f"bspline/{TEMPLATE}.tfm",
        record=RESULTS / f"bspline/{TEMPLATE}.json",
    output:
        landmarks=RESULTS / f"symmetrised/{TEMPLATE}.mrk.json",
        record=RESULTS / f"symmetrised/{TEMPLATE}.json",
    log:
        RESULTS / "logs/symmetrise_landmarks.log",
    group:
        f"register_{TEMPLATE}"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(5),
    params:
        settings=settings(ONESHOT.symmetrise),
        code=code("symmetrise_landmarks"),
    shell:
        command("symmetrise_landmarks") + " --settings {params.settings:q}"
        " --annotated {input.annotated} --reflection {input.reflection}"
        " --reflection-record {input.record} --landmarks {output.landmarks}"
        " --record {output.record}"


for batch, scans in STUDY.batches.items():

    rule:
        """A few scans' votes on the landmarks of a batch, each by its own registration."""
        name:
            f"vote_landmarks_{batch}"
        input:
            template_segmentation=SEGMENTATION,
            template_landmarks=ANNOTATED,
            template_centred=RESULTS / f"centred/{TEMPLATE}.nii.gz",
            peers_centred=for_scans("centred/{scan}.nii.gz", PEERS),
            peers_rigid=for_scans("rigid/{scan}.tfm", PEERS),
            peers_bspline=for_scans("bspline/{scan}.tfm", PEERS),
            peers_record=for_scans("bspline/{scan}.json", PEERS),
            centred=for_scans("centred/{scan}.nii.gz", scans),
            rigid=for_scans("rigid/{scan}.tfm", scans),
            bspline=for_scans("bspline/{scan}.tfm", scans),
            bspline_record=for_scans("bspline/{scan}.json", scans),
        output:
            voted=for_scans("voted/{scan}.mrk.json", scans),
            record=for_scans("voted/{scan}.json", scans),
        log:
            RESULTS / f"logs/vote_landmarks/{batch}.log",
        benchmark:
            RESULTS / f"benchmarks/vote_landmarks_{batch}.tsv"
        group:
            f"{SETTLE}_{batch}"
        conda:
            "../../envs/elastix.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=growing(10 + 2 * len(scans) * (1 + len(PEERS))),
        params:
            peers=PEERS,
            scans=scans,
            store=STORE / "vote",
            settings=settings(ONESHOT.consensus),
            deform=settings(ONESHOT.deform),
            seed=CONFIG.seed,
            labels=LABELS,
            template_image=lambda wildcards: image_of(TEMPLATE),
            code=code("vote_landmarks"),
        shell:
            command("vote_landmarks")
            + " --settings {params.settings:q} --deform-settings {params.deform:q}"
            " --seed {params.seed} --labels {params.labels}"
            " --template-image {params.template_image:q}"
            " --template-segmentation {input.template_segmentation:q}"
            " --template-centred {input.template_centred}"
            " --template-landmarks {input.template_landmarks} --peers {params.peers}"
            " --peers-centred {input.peers_centred} --peers-rigid {input.peers_rigid}"
            " --peers-bspline {input.peers_bspline} --peers-record {input.peers_record}"
            " --scans {params.scans} --store {params.store} --centred {input.centred}"
            " --rigid {input.rigid} --bspline {input.bspline}"
            " --bspline_record {input.bspline_record} --voted {output.voted}"
            " --record {output.record}"


for batch, scans in STUDY.batches.items():

    rule:
        """The template's landmarks in a batch of scans, each fitted once more by its window."""
        name:
            f"refine_landmarks_{batch}"
        input:
            template_landmarks=ANNOTATED,
            template_centred=RESULTS / f"centred/{TEMPLATE}.nii.gz",
            centred=for_scans("centred/{scan}.nii.gz", scans),
            bspline=for_scans("bspline/{scan}.tfm", scans),
            bspline_record=for_scans("bspline/{scan}.json", scans),
            voted=for_scans("voted/{scan}.mrk.json", scans if PEERS else []),
        output:
            refined=for_scans("refined/{scan}.mrk.json", scans),
            record=for_scans("refined/{scan}.json", scans),
        log:
            RESULTS / f"logs/refine_landmarks/{batch}.log",
        group:
            f"{SETTLE}_{batch}"
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(5 + len(scans)),
        params:
            scans=scans,
            store=STORE / "refine",
            settings=settings(ONESHOT.refine),
            code=code("refine_landmarks"),
        shell:
            command("refine_landmarks") + " --settings {params.settings:q}"
            " --template-landmarks {input.template_landmarks}"
            " --template-centred {input.template_centred}"
            " --scans {params.scans} --store {params.store} --centred {input.centred}"
            " --bspline {input.bspline} --bspline_record {input.bspline_record}"
            " --voted {input.voted}"
            " --refined {output.refined} --record {output.record}"


for batch, scans in LOOPS.items():

    rule:
        """A batch of scans registered back to the template, which says how far errors reach."""
        name:
            f"close_loops_{batch}"
        input:
            template_segmentation=SEGMENTATION,
            template_landmarks=ANNOTATED,
            template_centred=RESULTS / f"centred/{TEMPLATE}.nii.gz",
            centred=for_scans("centred/{scan}.nii.gz", scans),
            rigid=for_scans("rigid/{scan}.tfm", scans),
            refined=for_scans("refined/{scan}.mrk.json", scans),
            refined_record=for_scans("refined/{scan}.json", scans),
        output:
            record=for_scans("loops/{scan}.json", scans),
        log:
            RESULTS / f"logs/close_loops/{batch}.log",
        benchmark:
            RESULTS / f"benchmarks/close_loops_{batch}.tsv"
        group:
            f"{SETTLE}_{batch}"
        conda:
            "../../envs/elastix.yaml"
        threads: 1
        resources:
            mem_mb=growing(3000),
            runtime=growing(10 + 2 * len(scans)),
        params:
            scans=scans,
            store=STORE / "loops",
            settings=settings(ONESHOT.deform),
            windows=settings(ONESHOT.refine),
            seed=CONFIG.seed,
            labels=LABELS,
            template_image=lambda wildcards: image_of(TEMPLATE),
            code=code("close_loops"),
        shell:
            command("close_loops")
            + " --settings {params.settings:q} --refine-settings {params.windows:q}"
            " --seed {params.seed} --labels {params.labels}"
            " --template-image {params.template_image:q}"
            " --template-segmentation {input.template_segmentation:q}"
            " --template-centred {input.template_centred}"
            " --template-landmarks {input.template_landmarks}"
            " --scans {params.scans} --store {params.store} --centred {input.centred}"
            " --rigid {input.rigid} --refined {input.refined}"
            " --refined_record {input.refined_record} --record {output.record}"


for batch, scans in STUDY.batches.items():

    rule:
        """The landmarks of a batch of scans as Slicer markups, step by step, with their radii."""
        name:
            f"place_landmarks_{batch}"
        input:
            template_landmarks=ANNOTATED,
            template_centred=RESULTS / f"centred/{TEMPLATE}.nii.gz",
            template_centred_record=RESULTS / f"centred/{TEMPLATE}.json",
            template_region_record=RESULTS / f"foi/{TEMPLATE}.json",
            loops=for_scans("loops/{scan}.json", LOOP_SCANS),
            loops_refined=for_scans("refined/{scan}.json", LOOP_SCANS),
            region_record=for_scans("foi/{scan}.json", scans),
            centred=for_scans("centred/{scan}.nii.gz", scans),
            centred_record=for_scans("centred/{scan}.json", scans),
            moments=for_scans("rigid/{scan}.moments.tfm", scans),
            rigid=for_scans("rigid/{scan}.tfm", scans),
            rigid_record=for_scans("rigid/{scan}.json", scans),
            bspline=for_scans("bspline/{scan}.tfm", scans),
            voted=for_scans("voted/{scan}.mrk.json", scans if PEERS else []),
            refined=for_scans("refined/{scan}.mrk.json", scans),
            refined_record=for_scans("refined/{scan}.json", scans),
        output:
            landmarks=for_scans(f"{PLACED}/{{scan}}.mrk.json", scans),
            record=for_scans(f"{PLACED}/{{scan}}.json", scans),
        log:
            RESULTS / f"logs/place_landmarks/{batch}.log",
        group:
            f"finish_{batch}"
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(5 + len(scans)),
        params:
            scans=scans,
            store=STORE / "landmarks",
            settings=settings(ONESHOT.confidence),
            code=code("place_landmarks"),
        shell:
            command("place_landmarks") + " --settings {params.settings:q}"
            " --template-landmarks {input.template_landmarks}"
            " --template-centred {input.template_centred}"
            " --template-centred-record {input.template_centred_record}"
            " --template-region-record {input.template_region_record}"
            " --loops {input.loops} --loops-refined {input.loops_refined}"
            " --scans {params.scans} --store {params.store}"
            " --region_record {input.region_record} --centred {input.centred}"
            " --centred_record {input.centred_record} --moments {input.moments}"
            " --rigid {input.rigid} --rigid_record {input.rigid_record}"
            " --bspline {input.bspline} --voted {input.voted} --refined {input.refined}"
            " --refined_record {input.refined_record} --landmarks {output.landmarks}"
            " --record {output.record}"
