# Everything from a fresh clone: `make demo` and `make test` build their own environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check unit docs release-check benchmark mutants clean

# The main job on the example: an NWB file becomes a fitted network, and an NWB file again.
demo: $(READY)
	mkdir -p demo
	$(BIN)/nwbrnn fit example_data/teacher.nwb -o demo/fit.nwb --json demo/scores.json --overwrite
	$(BIN)/nwbrnn evaluate demo/fit.nwb
	@echo "The fit is in demo/fit.nwb, its scores are in demo/scores.json. A page on it: .venv/bin/nwbrnn report demo/fit.nwb -o demo/report.html"

# What continuous integration runs.
test: check unit docs

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell nwbrnn tests docs benchmarks README.md CHANGELOG.md CONTRIBUTING.md

# Before Python 3.12 hdmf-zarr needs zarr 2, and writing Zarr needs zarr 3: its tests run with a zarr of their own.
unit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --cov --cov-report=term
	OMP_NUM_THREADS=1 PYTHONPATH=$(VENV)/zarr3 $(BIN)/python -m pytest -q tests/integration/test_datasets.py -k zarr

# Builds sdist and wheel, installs the wheel without extras in a new environment, and tries every command there.
release-check: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/release/check.py

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

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nwbrnn needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/zarr3 \
		zarr==3.1.6 numcodecs==0.16.6 donfig==0.8.1.post1 google-crc32c==1.9.0
	touch $(READY)

clean:
	rm -rf $(VENV) demo docs/_build docs/generated .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
