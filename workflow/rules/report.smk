"""What made the results, and the pictures and the page that people look at."""


report: "../report/study.rst"


GIVEN = (*TEMPLATES, *STUDY.scans, *STUDY.training)


rule record_run:
    """What made a run: its method, seed, settings, steps, devices and versions."""
    input:
        **FLOW.reads(report.MADE, SCANS),
    output:
        **FLOW.writes(report.MADE),
    log:
        FLOW.log(report.MADE),
    localrule: True
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=300,
        runtime=5,
    params:
        **FLOW.decides(report.MADE, SCANS),
    shell:
        FLOW.command(report.MADE)


rule record_provenance:
    """Settings, inputs, code, packages, machine and devices, as the tables were made."""
    input:
        **FLOW.reads(report.PROVENANCE, GIVEN, runs=ALL_RUNS),
    output:
        **FLOW.writes(report.PROVENANCE),
    log:
        FLOW.log(report.PROVENANCE),
    localrule: True
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=300,
        runtime=5,
    params:
        **FLOW.decides(report.PROVENANCE, GIVEN, runs=ALL_RUNS),
    shell:
        FLOW.command(report.PROVENANCE)


for batch, scans in STUDY.batches.items():

    rule:
        """Three views through the landmarks of each scan of a batch."""
        name:
            f"draw_overviews_{batch}"
        input:
            **FLOW.reads(report.PICTURES, scans),
        output:
            **in_report(FLOW.writes(report.PICTURES, scans), picture="Pictures"),
        log:
            FLOW.log(report.PICTURES, batch),
        group:
            f"finish_{batch}"
        conda:
            "../../envs/report.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(5 + len(scans)),
        params:
            **FLOW.decides(report.PICTURES, scans),
        shell:
            FLOW.command(report.PICTURES)


rule write_report:
    """One page with all runs: tables, curves, failures and every scan's picture."""
    input:
        **FLOW.reads(report.PAGE, SCANS, runs=ALL_RUNS),
        # Tables and figures that methods leave for the page.
        ends=FLOW.ends(),
    output:
        **FLOW.writes(report.PAGE),
    log:
        FLOW.log(report.PAGE),
    localrule: True
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        **FLOW.decides(report.PAGE, SCANS, runs=ALL_RUNS),
    shell:
        FLOW.command(report.PAGE)
