# Everything from a fresh clone: `make demo` and `make test` build their own environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
READY := $(VENV)/.ready
# Tests start hundreds of processes, which would compile the package again without its bytecode.
unexport PYTHONDONTWRITEBYTECODE
# one process of tests for each core, with one thread each
export OMP_NUM_THREADS := 1
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile
# all but what nobody imports here; some packages hold templates that are no Python
COMPILE := $(BIN)/python -W ignore -m compileall -qq -j 0 -x '/tests/|/sympy/' $(VENV)/lib || true
PYTEST := $(BIN)/python -m pytest --numprocesses logical --dist worksteal

.PHONY: demo test test-fast test-long check unit docs release-check benchmark mutants clean

# The main job from end to end: a simulated recording becomes a fitted network, and a page with a verdict on it.
demo: $(CORE)
	mkdir -p demo
	@echo "Step 1 of 3: simulate a recording of a circuit that reaches in 8 directions, with 12 trials each."
	$(BIN)/nwbrnn simulate -o demo/session.nwb --neurons 80 --trials 12 --overwrite
	@echo "Step 2 of 3: read it, fit a network to the muscles and to 20 of the 80 neurons, and score it on held-out trials."
	$(BIN)/nwbrnn fit demo/session.nwb -o demo/fit.nwb --json demo/scores.json --overwrite
	@echo "Step 3 of 3: compute all scores with their limits and intervals, and write a page."
	$(BIN)/nwbrnn report demo/fit.nwb -o demo/report.html --overwrite

# Everything that a change can break; what continuous integration runs. The tests wait now and then, and leave a core idle.
test: $(READY)
	$(MAKE) --jobs=2 unit check docs release-check

# The loop while developing: a minute and a half on two cores.
test-fast: $(READY)
	$(PYTEST) -m "not slow"

# Before a release: faults are provoked hundreds of times, and the claims are reproduced; counts are printed at the end.
test-long: $(READY)
	$(PYTEST) --long

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/windows/mypy.ini --cache-dir .mypy_cache/win32
	$(BIN)/lint-imports
	$(BIN)/codespell nwbrnn tests docs benchmarks README.md CHANGELOG.md CONTRIBUTING.md

# hdmf-zarr and dandi are installed with zarr 2, and writing a Dataset as Zarr needs zarr 3: its tests run with one.
unit: $(READY)
	$(PYTEST) --cov --cov-report=term
	PYTHONPATH=$(VENV)/zarr3 $(BIN)/python -m pytest -q tests/integration/test_datasets.py -k zarr

# Builds sdist and wheel, installs the wheel without extras in a new environment, and tries every command there.
release-check: $(READY)
	$(BIN)/python tests/release/check.py

# The pages, in docs/_build/html. Tutorials are run, warnings are errors.
docs: $(READY)
	$(BIN)/python -m sphinx --builder html --jobs auto --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build/html

# Small faults in the numerical core, 320 of them at random: does a quick test fail? See docs/reliability.md.
mutants: $(READY)
	$(BIN)/python tests/mutation/run.py --count 320 --seed 0

benchmark: $(READY)
	$(BIN)/python benchmarks/epoch.py
	$(BIN)/python benchmarks/recursive_least_squares.py
	$(BIN)/python benchmarks/envelope.py
	$(BIN)/python benchmarks/session.py
	$(BIN)/python benchmarks/streaming.py
	$(BIN)/python benchmarks/export.py

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nwbrnn needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# nwbrnn without extras, for `make demo`; pip shows what it downloads
$(CORE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing nwbrnn and the packages that it needs into $(VENV). This takes some minutes, most of them for PyTorch."
	$(INSTALL) -c constraints.txt -e .
	$(COMPILE)
	touch $(CORE)

# everything for development
$(READY): pyproject.toml constraints.txt tests/zarr3.txt | $(BIN)/python
	@echo "Installing nwbrnn, and what its tests, checks and documentation need, into $(VENV). This takes some minutes."
	$(INSTALL) --quiet -c constraints.txt -e '.[dev]'
	$(INSTALL) --quiet --no-deps --target $(VENV)/zarr3 -r tests/zarr3.txt
	$(COMPILE)
	touch $(CORE) $(READY)

clean:
	rm -rf $(VENV) demo docs/_build docs/generated .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
