# Every target sets up what it needs: a virtual environment in .venv with the pinned packages of requirements.lock.
# Needs Python 3.11 or newer, git and make. A Python can be named: make test PYTHON=/path/to/python3.12
# Packages are kept in .venv (VENV=DIR for another place), run folders in runs/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?=
BIN := $(VENV)/bin
PACKAGES := core market grid controllers hardware peerwatt
CHECKED := $(PACKAGES) tests $(wildcard benchmarks examples scripts)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE :=  # hundreds of processes start in the tests: what they import is compiled once

.PHONY: help setup demo test test-all soak check format bench lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed  ## only make the environment

demo: $(VENV)/.installed  ## simulate a year of the shipped semi-urban district and write its report
	@$(BIN)/peerwatt run semiurban --out runs/semiurban --overwrite
	echo "The report: runs/semiurban/report.html (open it in a browser)"

PYTEST ?=
test: $(VENV)/.installed  ## the everyday tests, a few minutes; PYTEST="..." adds options
	@$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not browser and not campaign" $(PYTEST)

test-all: $(VENV)/.installed  ## every test but the campaigns of `make soak`
	@$(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder \
	    -m "not campaign and not timed"  # one more than processors, since some wait
	# Deadlines in real seconds: what misses one beside other tests has to keep it alone. Any other end is an end.
	code=0
	$(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder -m "timed and not campaign" \
	    $$(grep -rl --include='test_*.py' 'mark\.timed' tests) || code=$$?
	if [ $$code = 1 ]; then
	  echo "Tests with deadlines failed beside others. Once more, one at a time:"
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none -m "timed and not campaign"
	else exit $$code; fi

SOAK ?=
soak: $(VENV)/.installed  ## the long campaigns: markets and guardians killed, millions of fuzzed registers and commands
	@$(BIN)/python -m tests.crash.soak $(SOAK)
	$(BIN)/python -m tests.independent.devices.campaign --kills 50 --timer 2
	$(BIN)/python -m pytest -m campaign -v

check: $(VENV)/.installed  ## formatting, lint, types and the arrows between the folders
	@$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed  ## format the code and mend what ruff can mend
	@$(BIN)/ruff format $(CHECKED)
	$(BIN)/ruff check --fix $(CHECKED)

bench: $(VENV)/.installed  ## the benchmarks, as ratios within one run
	@$(BIN)/python -m benchmarks

# The lock names versions only: no index, host or folder, so that it installs from wherever packages come from.
lock: $(VENV)/.python  ## resolve requirements.lock anew from pyproject.toml, for all supported Pythons
	@$(BIN)/python -m pip install --quiet uv
	{ echo "# Every package that \`make\` installs, pinned for Python 3.11 to 3.14; \`make lock\` rewrites it from pyproject.toml."
	  $(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade --quiet \
	      --no-header --no-annotate --no-emit-index-url --no-emit-find-links; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:  ## remove the environment, caches and built files; run folders stay
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The newest Python that can make a virtual environment. One without ensurepip (Debian splits it off) is passed over.
$(VENV)/.python:
	@probe='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
	chosen=''
	old=''
	for python in $(if $(PYTHON),"$(PYTHON)",python3.14 python3.13 python3.12 python3.11 python3 python); do
	  if "$$python" -c "$$probe" 2>/dev/null; then chosen="$$python"; break; fi
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then old="$$python"; fi
	done
	if [ -z "$$chosen" ] && [ -n "$$old" ]; then
	  echo "error: $$old cannot make a virtual environment, or is newer than 3.14." >&2
	  echo "  what to do: on Debian or Ubuntu install the package python3-venv; else name a Python: make PYTHON=..." >&2
	  exit 1
	elif [ -z "$$chosen" ]; then
	  echo "error: no Python 3.11 to 3.14 found$(if $(PYTHON), at $(PYTHON))." >&2
	  echo "  what to do: install one, or name it: make PYTHON=/path/to/python3" >&2
	  exit 1
	fi
	echo "Setting up $(VENV) with $$("$$chosen" --version)"
	"$$chosen" -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.python requirements.lock pyproject.toml
	@echo "Installing the packages of requirements.lock (a few minutes the first time)"
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
