# `make demo` plays the whole loop; `make test` runs every test. Both set up what they need.

PYTHON ?= python3
# Further arguments for pip, for instance to choose where torch's CPU build comes from.
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet $(PIP_ARGS)
INSTALLED := $(VENV)/.installed

.PHONY: install demo up test lint format lmdeploy-env clean

install: $(INSTALLED)

# The constraints list every package with its version, so nothing is resolved, and torch stays the build it names.
$(INSTALLED): constraints/main.txt pyproject.toml
	@echo "installing the pinned packages into $(VENV) (some minutes, 4 GB)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Alignway needs Python 3.11 to 3.13; use make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --no-deps -r constraints/main.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/alignway demo

up: $(INSTALLED)
	$(BIN)/alignway up

test: $(INSTALLED) lmdeploy-env
	$(BIN)/python -m pytest -q

lmdeploy-env: .venv-lmdeploy/installed

# LMDeploy's pins clash with vLLM's. The heavy packages come from the main environment; LMDeploy's wheel asks for an
# older torch than it needs here, hence --no-deps.
SITE_PACKAGES = -c 'import site; print(site.getsitepackages()[0])'
.venv-lmdeploy/installed: constraints/lmdeploy.txt $(INSTALLED)
	@$(BIN)/python -m venv --without-pip --clear .venv-lmdeploy
	@$(BIN)/python $(SITE_PACKAGES) > "$$(.venv-lmdeploy/bin/python $(SITE_PACKAGES))/main_environment.pth"
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --python .venv-lmdeploy/bin/python install --quiet $(PIP_ARGS) --no-deps -r constraints/lmdeploy.txt
	@touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-lmdeploy .alignway build dist

# Longer proofs: bounded, resumable, each run recorded under benchmarks/results/.
.PHONY: proof-swap
proof-swap: $(INSTALLED)
	$(BIN)/python -m benchmarks.swap --swaps 1000 --streams 32 --minutes 40
