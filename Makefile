# Each command runs in .venv, which envs/create.sh makes from exact versions and then leaves alone.

STUDY ?= cochlea
DATA ?=
WITH ?=
CORES ?= all
SEEDS ?= 1 2 3
PRESETS ?=
SNAKEMAKE_OPTIONS ?=
PYTEST_OPTIONS ?=
BENCH_OPTIONS ?=
PYTHON ?= python3

export STUDY DATA WITH CORES SEEDS PRESETS PYTHON
unexport PYTHONPATH PYTHONHOME
ACTIVATE = . .venv/bin/activate

.PHONY: help run ablation bench test check pytest environments-test environment lock clean

help:
	@echo 'make run                       the default study, from scans to report'
	@echo 'make run STUDY=x DATA=folder   the study of studies/x.yaml (or a .yaml file) on the scans in folder'
	@echo 'make run STUDY=x WITH=best     the same with the settings of studies/best/x.yaml on top'
	@echo 'make ablation                  what each step is worth, over trainings with SEEDS="1 2 3" (also STUDY, DATA;'
	@echo '                               PRESETS="cochlea_paper" compares other studies on the same scans)'
	@echo 'make bench DATA=folder         cost and error of the mice, beside plain elastix and ANTs (20 minutes)'
	@echo 'make test                      the tests and the checks of the code'
	@echo 'make environments-test         a study in conda environments of their pins alone (some minutes, some GB)'
	@echo 'make environment               only create .venv'
	@echo 'make lock                      choose versions again, after a change of envs/pins.toml'
	@echo 'make clean                     remove .venv and caches; results stay'
	@echo
	@echo 'CORES=4 limits the processor cores (default: all); PYTHON=python3.12 chooses the Python for .venv;'
	@echo 'SNAKEMAKE_OPTIONS and PYTEST_OPTIONS are passed on, as in make run SNAKEMAKE_OPTIONS=--dry-run.'

run ablation: environment
	@set -- $(filter ablation,$@) --cores "$$CORES" $(SNAKEMAKE_OPTIONS); \
	case "$$STUDY" in \
	    cochlea) study= ;; \
	    *.yaml | *.yml) study=$$STUDY ;; \
	    *) study=studies/$$STUDY.yaml ;; \
	esac; \
	if [ -n "$$study" ]; then \
	    [ -f "$$study" ] || { echo "landmarkflow: STUDY=$$STUDY: there is no file $$study." >&2; exit 1; }; \
	    set -- "$$@" --configfile "$$study"; \
	fi; \
	if [ -n "$$WITH" ]; then \
	    more=studies/$$WITH/$$(basename "$$STUDY" .yaml).yaml; \
	    [ -f "$$more" ] || { echo "landmarkflow: WITH=$$WITH: there is no file $$more." >&2; exit 1; }; \
	    [ -n "$$study" ] || set -- "$$@" --configfile config.yaml; \
	    set -- "$$@" "$$more"; \
	fi; \
	if [ -n "$$DATA" ] || [ $@ = ablation ]; then set -- "$$@" --config; fi; \
	if [ -n "$$DATA" ]; then \
	    folder=$$(cd -- "$$DATA" 2>/dev/null && pwd) || \
	        { echo "landmarkflow: DATA=$$DATA: there is no such folder." >&2; exit 1; }; \
	    set -- "$$@" "data_folder=$$folder"; \
	fi; \
	if [ $@ = ablation ]; then set -- "$$@" "seeds=$$SEEDS" "presets=$$PRESETS"; fi; \
	echo "snakemake $$*"; \
	$(ACTIVATE) && exec snakemake "$$@"

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
	$(ACTIVATE) && python -m pytest $(PYTEST_OPTIONS)

environments-test: environment
	$(ACTIVATE) && INSTALL_ENVIRONMENTS=1 python -m pytest tests/test_bare_environments.py $(PYTEST_OPTIONS)

# ANTs has an environment of its own, for the bench alone.
bench: environment
	@[ -n "$$DATA" ] || { echo "landmarkflow: make bench needs DATA=<folder of the mice>." >&2; exit 1; }
	[ -d benchmarks/.venv ] || { $$PYTHON -m venv benchmarks/.venv && \
	    benchmarks/.venv/bin/pip install --quiet --requirement benchmarks/requirements.txt; }
	$(ACTIVATE) && BENCH_ANTS_PYTHON=benchmarks/.venv/bin/python \
	    python benchmarks/bench.py --data "$$DATA" --output results/bench $(BENCH_OPTIONS)

environment:
	@envs/create.sh

lock:
	envs/lock.sh

clean:
	rm -rf .venv benchmarks/.venv .hypothesis .mypy_cache .pytest_cache .ruff_cache
