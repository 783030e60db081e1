"""The study once more with each further template, and one list of landmarks of all.

Each further template is a module: the same Snakefile in which an annotated scan takes the
template's place. What no template changes (scans, their references and regions) all read from the
study's own results.
"""

WAYS = {TEMPLATE: RESULTS / PLACED}
# Of one template's way to a scan: a record that doubts takes it out of the count.
OF_A_WAY = ["centred", "rigid", "bspline", "refined"]


def records_of_ways(scans) -> list[str]:
    """The stages' records, template by template, scan by scan."""
    return [
        str(folder.parent / stage / f"{scan}.json")
        for folder in WAYS.values()
        for scan in scans
        for stage in [*OF_A_WAY, folder.name]
    ]


for template_scan in FURTHER_TEMPLATES:
    study = f"{CONFIG.study}-{template_scan}"
    prefix = f"{study}_"
    WAYS[template_scan] = Path("results") / study / "landmarks"
    HELD.append(Path("results") / study)

    module:
        name: study
        snakefile:
            "../../Snakefile"
        config:
            {
                **config,
                "study": study,
                "data_of": CONFIG.study,
                "template_scan": template_scan,
            }
        replace_prefix:
            {
                f"results/{study}/{file}": f"results/{CONFIG.study}/{file}"
                for file in [
                    "data/",
                    *[
                        f"{folder}/{scan}."
                        for folder in ("foi", "references")
                        for scan in STUDY.scans
                    ],
                ]
            }

    use rule * from study exclude simulate_template, simulate_scan, fetch_file as prefix*


for batch, scans in STUDY.batches.items():

    rule:
        """The landmarks of a batch of scans, one list of those by all templates."""
        name:
            f"fuse_landmarks_{batch}"
        input:
            template_landmarks=RESULTS / f"references/{TEMPLATE}.mrk.json",
            placed=[
                folder / f"{scan}.mrk.json"
                for folder in WAYS.values()
                for scan in scans
            ],
            records=records_of_ways(scans),
        output:
            landmarks=for_scans("landmarks/{scan}.mrk.json", scans),
            record=for_scans("landmarks/{scan}.json", scans),
        log:
            RESULTS / f"logs/fuse_landmarks/{batch}.log",
        group:
            f"finish_{batch}"
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(5),
        params:
            templates=list(WAYS),
            scans=scans,
            settings=settings(ONESHOT.fuse),
            code=code("fuse_landmarks"),
        shell:
            command("fuse_landmarks") + " --settings {params.settings:q}"
            " --template-landmarks {input.template_landmarks}"
            " --templates {params.templates} --scans {params.scans}"
            " --placed {input.placed} --records {input.records}"
            " --landmarks {output.landmarks} --record {output.record}"
