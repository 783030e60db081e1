"""What made the results, and the pictures and the page that people look at."""


rule checksum_inputs:
    """The digest of every file that the study was given."""
    input:
        images=[file for scan in STUDY.scans for file in scan_files(scan)],
        template=scan_files(TEMPLATE),
        others=[path for scan, role, path in GIVEN if role != "image"],
    output:
        checksums=RESULTS / "checksums.tsv",
    log:
        RESULTS / "logs/checksum_inputs.log",
    # Nothing but the page waits for it.
    priority: -10
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        scans=[scan for scan, role, path in GIVEN],
        roles=[role for scan, role, path in GIVEN],
        paths=[path for scan, role, path in GIVEN],
        code=code("checksum_inputs"),
    shell:
        command("checksum_inputs") + " --scans {params.scans} --roles {params.roles}"
        " --paths {params.paths:q} --checksums {output.checksums}"


rule record_provenance:
    """Settings, inputs, code, packages, machine and devices, as the tables were made."""
    input:
        tables=[RESULTS / "evaluation" / table for table in TABLES],
        checksums=RESULTS / "checksums.tsv",
        training=RESULTS / "model/training.json",
        centred=for_scans("centred/{scan}.json", [TEMPLATE, *STUDY.scans]),
    output:
        provenance=RESULTS / "provenance.json",
        config=RESULTS / "config.yaml",
    log:
        RESULTS / "logs/record_provenance.log",
    localrule: True
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=300,
        runtime=5,
    params:
        study=settings(CONFIG),
        code=code("record_provenance"),
    shell:
        command("record_provenance") + " --study {params.study:q}"
        " --centred {input.centred} --training {input.training}"
        " --checksums {input.checksums} --config {output.config}"
        " --provenance {output.provenance}"


for batch, scans in STUDY.batches.items():

    rule:
        """Three views through the landmarks of each scan of a batch."""
        name:
            f"draw_overviews_{batch}"
        input:
            image=[file for scan in scans for file in scan_files(scan)],
            landmarks=for_scans("landmarks/{scan}.mrk.json", scans),
            landmarks_record=for_scans("landmarks/{scan}.json", scans),
            reference=for_scans("references/{scan}.mrk.json", scans),
        output:
            picture=for_scans("pictures/{scan}.png", scans),
            record=for_scans("pictures/{scan}.json", scans),
        log:
            RESULTS / f"logs/draw_overviews/{batch}.log",
        group:
            f"finish_{batch}"
        conda:
            "../../envs/report.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(5 + len(scans)),
        params:
            image=[image_of(scan) for scan in scans],
            scans=scans,
            store=STORE / "picture",
            settings=settings(CONFIG.report),
            code=code("draw_overviews"),
        shell:
            command("draw_overviews")
            + " --settings {params.settings:q} --scans {params.scans}"
            " --store {params.store} --image {params.image:q} --landmarks {input.landmarks}"
            " --landmarks_record {input.landmarks_record} --reference {input.reference}"
            " --picture {output.picture} --record {output.record}"


rule write_report:
    """One page with Table 1, curves, failures and every scan's picture."""
    input:
        tables=[RESULTS / "evaluation" / table for table in TABLES],
        history=RESULTS / "model/training.csv",
        provenance=RESULTS / "provenance.json",
        pictures=for_scans("pictures/{scan}.png", STUDY.scans),
    output:
        report=RESULTS / "report.html",
    log:
        RESULTS / "logs/write_report.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        title=CONFIG.study,
        study=settings(CONFIG),
        evaluation=RESULTS / "evaluation",
        code=code("write_report"),
    shell:
        command("write_report") + " --title {params.title:q} --study {params.study:q}"
        " --evaluation {params.evaluation} --history {input.history}"
        " --provenance {input.provenance}"
        " --pictures {input.pictures} --report {output.report}"
