# Needs python3 (3.11 or later, with venv) and make; everything else is set up below .venv.
PROFILE ?= mini
DATA    ?=
PYTHON  ?= python3
CORES   ?=
SWEEPS  ?= amount block loss targets depth length film labels
BIN     := .venv/bin
UV      := uv==0.13.9

# stages and tests start several times faster from compiled bytecode
unexport PYTHONDONTWRITEBYTECODE
# the kernels are those of .venv, whatever else on this machine is called python3
unexport JUPYTER_PATH
# values reach the programs through the environment, so that they may have any characters in them
export PROFILE DATA

# programs that keep files in the home folder get one here when that one cannot be written to
ifneq ($(shell t=$$(mktemp -d "$$HOME/.hiermovie.XXXXXX" 2>/dev/null) && rmdir "$$t" && echo yes),yes)
export HOME := $(CURDIR)/.home
$(shell mkdir -p "$(CURDIR)/.home")
endif

.PHONY: help setup reproduce check ablations class course test test-quick test-slurm site bench bench-gpu cluster lab clean export packaged notebooks readme lock

help:
	@echo "make reproduce PROFILE=tiny   data, pretraining, all tasks, tables, figures, one page (minutes)"
	@echo "make reproduce                the same with PROFILE=mini"
	@echo "make check                    compare that run with the reference results of its profile"
	@echo "make ablations                every sweep of the profile, one figure each (hours with mini)"
	@echo "make test                     all tests"
	@echo "make test-quick               those that take less than some seconds (3 minutes)"
	@echo "make bench                    what is claimed about speed, measured (CPU)"
	@echo "make bench-gpu                what this machine's graphics card does (8 minutes)"
	@echo "make test-slurm               part of profile tiny through a Slurm of this machine, if it is installed"
	@echo "make site                     all notebooks, the reference and the results as web pages"
	@echo "make class                    small data and checkpoints for the lessons (a minute)"
	@echo "make course                   slides, handouts, students' notebooks, nbgrader: runs/course"
	@echo "make lab                      JupyterLab, on the page that lists all notebooks"
	@echo "make clean                    remove runs and caches (keeps .venv; it is skipped while the lock is unchanged)"
	@echo "for developers: make export (notebooks to package), notebooks (run them, keep outputs), readme, packaged, lock"

# does nothing while lock, settings, set-up scripts and folder are those of the last set-up
setup:
	@$(PYTHON) runs/set_up.py $(PYTHON) "$(UV)"

reproduce: setup
	@$(BIN)/hiermovie reproduce --profile "$$PROFILE" $(if $(CORES),--cores $(CORES)) $(if $(DATA),--data "$$DATA")

check: setup
	@$(BIN)/hiermovie check --profile "$$PROFILE"

ablations: setup
	@$(BIN)/hiermovie reproduce --profile "$$PROFILE" $(if $(CORES),--cores $(CORES)) $(if $(DATA),--data "$$DATA") $(foreach s,$(SWEEPS),sweep-$(s))

test: setup
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-quick: setup
	$(BIN)/python -m pytest -m "not slow"

# pycocoevalcap is only compared with, so it is not among the requirements (its wheel brings 100 MB of Java)
bench: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r tests/bench/requirements.lock
	$(BIN)/python tests/bench/run.py

# what this machine's graphics card does, at the paper's size
bench-gpu: setup
	$(BIN)/python tests/bench/gpu.py

# part of profile tiny through a Slurm of this machine; does nothing where Slurm is not installed
test-slurm: cluster
	$(BIN)/python tests/slurm/run.py

# what `hiermovie reproduce --cluster` needs beside the other requirements
cluster: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r runs/cluster/requirements.lock

# what the lessons read: a world of 20 MB and small trained checkpoints
class: setup
	@$(BIN)/hiermovie reproduce --profile class $(if $(CORES),--cores $(CORES))

# from the lessons: slides, handouts, notebooks without solutions, assignments
course: setup
	@$(BIN)/python -c "from hiermovie.course import write_course; print(*write_course('runs/course'), sep='\n')"

# the notebooks, the reference and the results as pages: runs/site/html
site: setup
	@$(BIN)/python nbs/site/build.py

lab: setup
	$(BIN)/jupyter lab nbs/index.ipynb --notebook-dir=. --LabApp.app_settings_dir=$(CURDIR)/runs/lab $(if $(filter 0,$(shell id -u)),--allow-root)

clean:
	rm -rf .snakemake .pytest_cache .ruff_cache build dist *.egg-info .setup.lock .home
	find runs -mindepth 1 -maxdepth 1 -type d ! -name profiles ! -name reference ! -name lab ! -name cluster -exec rm -rf {} +
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +

export: setup
	@test -d hiermovie || mv .hiermovie.old hiermovie
	@rm -rf .hiermovie.old && mv hiermovie .hiermovie.old
	@if $(BIN)/nbdev_export; then rm -rf .hiermovie.old; else rm -rf hiermovie; mv .hiermovie.old hiermovie; exit 1; fi

# the small trained backbone that ships with the package
packaged: setup
	$(BIN)/hiermovie reproduce --profile packaged
	install -m 644 runs/packaged/backbone/backbone.safetensors nbs/trained/minimovies.safetensors

notebooks: export
	TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(BIN)/python -c "from hiermovie.app import run_notebooks; run_notebooks()"
	$(BIN)/nbdev_clean && $(MAKE) readme

# README.md and the list of notebooks in nbs/index.ipynb
readme: setup
	$(BIN)/python -c "from hiermovie.app import write_front_page; write_front_page()"

lock: setup
	$(BIN)/uv pip compile --quiet --refresh-package hiermovie --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url --no-header -o requirements.lock setup.py
