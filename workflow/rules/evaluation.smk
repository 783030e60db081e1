"""Errors, success rates and tables of every run, all runs side by side, and the last check."""

SCANS = tuple(STUDY.scans)
ALL_RUNS = tuple(STUDY.runs)


rule evaluate_landmarks:
    """A run's errors, success rates, overlaps, failures and Table 1."""
    input:
        **FLOW.reads(evaluation.EVALUATE, SCANS),
    output:
        **in_report(
            FLOW.writes(evaluation.EVALUATE, SCANS),
            table1="Tables",
            errors="Tables",
            failures="Tables",
        ),
    log:
        FLOW.log(evaluation.EVALUATE),
    localrule: True
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(10 + len(SCANS) // 4),
    params:
        **FLOW.decides(evaluation.EVALUATE, SCANS),
    shell:
        FLOW.command(evaluation.EVALUATE)


rule compare_runs:
    """All runs side by side, and what each of their steps is worth."""
    input:
        **FLOW.reads(evaluation.COMPARE, runs=ALL_RUNS),
    output:
        **in_report(
            FLOW.writes(evaluation.COMPARE), comparison="All runs", steps="All runs"
        ),
    log:
        FLOW.log(evaluation.COMPARE),
    localrule: True
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        **FLOW.decides(evaluation.COMPARE, runs=ALL_RUNS),
    shell:
        FLOW.command(evaluation.COMPARE)


rule check_scans:
    """The run ends in an error where scans were refused, unless the study sets such scans aside."""
    input:
        **FLOW.reads(evaluation.CHECK, SCANS, runs=ALL_RUNS),
        # Everything else first: one bad scan takes nothing from the others.
        page=RESULTS / "report.html",
    output:
        **FLOW.writes(evaluation.CHECK),
    log:
        FLOW.log(evaluation.CHECK),
    retries: 0
    localrule: True
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=300,
        runtime=5,
    params:
        **FLOW.decides(evaluation.CHECK, SCANS, runs=ALL_RUNS),
    shell:
        FLOW.command(evaluation.CHECK)
