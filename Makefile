# `make demo`, `make test` and `make bench` make what they need in .venv, once.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?=
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test bench bench-quick bench-compare fuzz install lint types dist clean

demo: install
	$(BIN)/polyrank compare demo $(DEMO) --algorithms zero-pad,replicate,fedhl --overwrite

# On each core at once, with one thread.
test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

# Beside its peers; writes bench/results/latest.json and docs/performance.md. ONLY=wire,scale measures
# these sections again and keeps the others.
bench: .venv/.bench
	$(BIN)/python -m bench run $(if $(ONLY),--only $(ONLY))

bench-quick: .venv/.bench
	$(BIN)/python -m bench run --size quick --only aggregation,simulation

# BASE=rev: that revision's results; with MEASURE=1 it is measured here and now.
bench-compare: .venv/.bench
	$(BIN)/python -m bench compare $(BASE) $(if $(MEASURE),--measure)

# Everything that reads a message, for so many seconds; ends with what was found.
fuzz: .venv/.fuzz
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.decode --seconds $(or $(SECONDS),600)

install: .venv/.installed

lint: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# A wheel and an sdist, each installed into an environment of its own.
dist: .venv/.dev
	rm -rf dist && $(BIN)/python -m build --outdir dist
	for file in dist/*.whl dist/*.tar.gz; do \
	  rm -rf dist/env && $(PYTHON) -m venv dist/env \
	  && dist/env/bin/pip install -q torch==2.13.0 && dist/env/bin/pip install -q $$file \
	  && dist/env/bin/polyrank --version && dist/env/bin/polyrank recipe demo >/dev/null || exit 1; done
	rm -rf dist/env

clean:
	rm -rf .venv dist build

# torch first and by itself: without a pinned one pip takes a build with gigabytes of CUDA.
.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "make: Python's venv is missing; on Debian: apt install python3-venv"; exit 1; }
	$(BIN)/pip install -q torch==2.13.0
	$(BIN)/pip install -q -e '.[demo,flower]'
	touch $@

.venv/.dev: .venv/.installed
	$(BIN)/pip install -q -e '.[demo,hub,rouge,quantised,track,flower,dev]'
	touch $@

.venv/.fuzz: .venv/.dev
	$(BIN)/pip install -q -e '.[demo,hub,flower,dev,fuzz]'
	touch $@

.venv/.bench: .venv/.installed
	$(BIN)/pip install -q -e '.[demo,quantised,bench]'
	touch $@
