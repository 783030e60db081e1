"""The study once for each seed, beside other presets if asked for, and what its steps are worth.

A preset is a module, and so is every training under another seed than the preset's own: the same
Snakefile under another configuration. What no seed changes (scans, references, candidate regions)
all trainings of a preset read from its own results.
"""

PRESETS, TRAININGS = ablation_of(config)
HELD += [Path("results") / t.study for t in TRAININGS if t.study != CONFIG.study]
SHARED = ("data", "foi", "references", "template")
# Printed names of the steps, the first one first.
STEPS = {
    "region": "region alone",
    "centred": "+ centring",
    "moments": "+ moments of inertia",
    "rigid": "+ rigid registration",
    "bspline": "+ B-spline",
    "voted": "+ votes",
    "final": "+ landmark windows (final)",
}


localrules:
    ablation,


for preset in PRESETS:
    study = preset["study"]
    prefix = f"{study}_"

    module:
        name: study
        snakefile:
            "../../Snakefile"
        config:
            preset

    use rule * from study as prefix*


for training in TRAININGS:
    if training.is_another:
        study = training.study
        prefix = f"{study}_"

        module:
            name: study
            snakefile:
                "../../Snakefile"
            config:
                {**training.config, "data_of": training.preset}
            replace_prefix:
                {
                    f"results/{study}/{folder}/": f"results/{training.preset}/{folder}/"
                    for folder in SHARED
                }

        use rule * from study exclude simulate_template, simulate_scan, fetch_file, derive_segmentation as prefix*


rule compare_steps:
    """Errors of each step, pooled over the seeds of each preset."""
    input:
        errors=[f"results/{t.study}/evaluation/errors.csv" for t in TRAININGS],
    output:
        table=RESULTS / "ablation.csv",
        markdown=RESULTS / "ablation.md",
    log:
        RESULTS / "logs/compare_steps.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        settings=settings(CONFIG.evaluate),
        names=json.dumps(STEPS),
        presets=[training.preset for training in TRAININGS],
        seeds=[training.seed for training in TRAININGS],
        code=code("compare_steps"),
    shell:
        command("compare_steps")
        + " --settings {params.settings:q} --names {params.names:q}"
        " --presets {params.presets} --seeds {params.seeds} --errors {input.errors}"
        " --table {output.table} --markdown {output.markdown}"


rule ablation:
    """What each step of the method is worth."""
    input:
        rules.compare_steps.output,
