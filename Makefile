# Everything from a fresh clone: `make demo` and `make test` build their own environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests start hundreds of processes, which would compile the package again without its bytecode.
unexport PYTHONDONTWRITEBYTECODE
# one process of tests for each core, with one thread each
export OMP_NUM_THREADS := 1
PYTEST := $(BIN)/python -m pytest --numprocesses logical --dist worksteal

.PHONY: demo test test-fast test-long check unit docs release-check benchmark mutants clean

# The main job on the example: an NWB file becomes a fitted network, and an NWB file again.
demo: $(READY)
	mkdir -p demo
	$(BIN)/nwbrnn fit example_data/teacher.nwb -o demo/fit.nwb --json demo/scores.json --overwrite
	$(BIN)/nwbrnn evaluate demo/fit.nwb
	@echo "The fit is in demo/fit.nwb, its scores are in demo/scores.json. A page on it: .venv/bin/nwbrnn report demo/fit.nwb -o demo/report.html"

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
	$(BIN)/mypy --config-file benchmarks/mypy.ini benchmarks
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32
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

$(READY): pyproject.toml constraints.txt tests/zarr3.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nwbrnn needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --target $(VENV)/zarr3 -r tests/zarr3.txt
	$(BIN)/python -W ignore -m compileall -qq -j 0 $(VENV)/lib || true  # some packages hold templates that are no Python
	touch $(READY)

clean:
	rm -rf $(VENV) demo docs/_build docs/generated .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
