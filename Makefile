# Each command runs in .venv, which envs/create.sh makes from exact versions and then leaves alone.

STUDY ?= cochlea
WITH ?=
DATA ?=
SEEDS ?=
CORES ?= all
SNAKEMAKE_OPTIONS ?=
PYTEST_OPTIONS ?=
BENCH_OPTIONS ?=
PYTHON ?= python3

export STUDY WITH DATA SEEDS CORES PYTHON
unexport PYTHONPATH PYTHONHOME
ACTIVATE = . .venv/bin/activate

.PHONY: help run ablation bench reference docs test check pytest environments-test environment lock clean

help:
	@echo 'make run                       the default study, from scans to report'
	@echo 'make run STUDY=x DATA=folder   the study of studies/x.yaml (or a .yaml file) on the scans in folder'
	@echo 'make run STUDY=x WITH=best     its variant, the study of studies/x_best.yaml'
	@echo 'make run SEEDS="1 2 3"         each run of the study once for every seed'
	@echo 'make ablation                  the same with these seeds: what each step is worth, in steps.md'
	@echo 'make bench DATA=folder         cost and error of the mice, beside plain elastix and ANTs (20 minutes)'
	@echo 'make reference                 config.yaml, the schemas and the pages that repeat what the code says'
	@echo 'make docs                      the documentation as a site, in site/'
	@echo 'make test                      the tests and the checks of the code'
	@echo 'make environments-test         a study in conda environments of their pins alone (some minutes, some GB)'
	@echo 'make environment               only create .venv'
	@echo 'make lock                      choose versions again, after a change of envs/pins.toml'
	@echo 'python -m landmarkflow --help   in .venv: check a study before its run, clean its results'
	@echo 'make clean                     remove .venv, site/ and caches; results stay'
	@echo
	@echo 'Settings are compared as runs of one study, a preset among them: see studies/cochlea_paper.yaml.'
	@echo 'CORES=4 limits the processor cores (default: all); PYTHON=python3.12 chooses the Python for .venv;'
	@echo 'SNAKEMAKE_OPTIONS and PYTEST_OPTIONS are passed on, as in make run SNAKEMAKE_OPTIONS=--dry-run.'

run ablation: environment
	@[ $@ = run ] || : "$${SEEDS:=1 2 3}"; \
	case "$$STUDY" in \
	    *.yaml | *.yml) file=$${STUDY%.y*ml}$${WITH:+_$$WITH}.$${STUDY##*.} ;; \
	    *) file=studies/$$STUDY$${WITH:+_$$WITH}.yaml ;; \
	esac; \
	[ "$$STUDY$$WITH" != cochlea ] || file=config.yaml; \
	[ -f "$$file" ] || { echo "landmarkflow: STUDY=$$STUDY$${WITH:+ WITH=$$WITH}: there is no file $$file." >&2; exit 1; }; \
	set -- --cores "$$CORES" $(SNAKEMAKE_OPTIONS); \
	[ "$$file" = config.yaml ] || set -- "$$@" --configfile "$$file"; \
	[ -z "$$DATA$$SEEDS" ] || set -- "$$@" --config; \
	if [ -n "$$DATA" ]; then \
	    folder=$$(cd -- "$$DATA" 2>/dev/null && pwd) || \
	        { echo "landmarkflow: DATA=$$DATA: there is no such folder." >&2; exit 1; }; \
	    set -- "$$@" "data_folder=$$folder"; \
	fi; \
	[ -z "$$SEEDS" ] || set -- "$$@" "seeds=$$SEEDS"; \
	echo "snakemake $$*"; \
	$(ACTIVATE) || exit 1; \
	[ $@ = ablation ] || exec snakemake "$$@"; \
	snakemake "$$@" && \
	    echo "What each step is worth: results/$$(sed -n 's/^study: *\([A-Za-z0-9_-]*\).*/\1/p' "$$file")/steps.md"

# Both run even where the first fails, and the tests' closing line comes last.
test:
	@$(MAKE) --no-print-directory --keep-going check pytest

check: environment
	$(ACTIVATE) && ruff check .
	$(ACTIVATE) && ruff format --check .
	$(ACTIVATE) && mypy
	$(ACTIVATE) && snakefmt --check .
	$(ACTIVATE) && snakemake --lint

pytest: environment
	$(ACTIVATE) && python -m pytest -n 2 $(PYTEST_OPTIONS)

environments-test: environment
	$(ACTIVATE) && INSTALL_ENVIRONMENTS=1 python -m pytest tests/test_bare_environments.py $(PYTEST_OPTIONS)

# ANTs has an environment of its own, for the bench alone.
bench: environment
	@[ -n "$$DATA" ] || { echo "landmarkflow: make bench needs DATA=<folder of the mice>." >&2; exit 1; }
	[ -d benchmarks/.venv ] || { $$PYTHON -m venv benchmarks/.venv && \
	    benchmarks/.venv/bin/pip install --quiet --requirement benchmarks/requirements.txt; }
	$(ACTIVATE) && BENCH_ANTS_PYTHON=benchmarks/.venv/bin/python \
	    python benchmarks/bench.py --data "$$DATA" --output results/bench $(BENCH_OPTIONS)

reference: environment
	$(ACTIVATE) && python -m docs.reference

docs: environment
	$(ACTIVATE) && mkdocs build --strict

environment:
	@envs/create.sh

lock:
	envs/lock.sh

clean:
	rm -rf .venv site benchmarks/.venv .hypothesis .mypy_cache .pytest_cache .ruff_cache
