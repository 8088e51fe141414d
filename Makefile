# `make demo` plays the whole loop; `make test` runs every test. Both set up what they need.

PYTHON ?= python3
# Further arguments for pip, for instance to choose where torch's CPU build comes from.
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet $(PIP_ARGS)
INSTALLED := $(VENV)/.installed

.PHONY: install demo demo-full up test proof-votes lint format lmdeploy-env export-env clients-env clean

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

# Also a canary with votes, a bad candidate that the gates stop, and a broken release that is rolled back by itself.
demo-full: $(INSTALLED)
	$(BIN)/alignway demo --full

up: $(INSTALLED)
	$(BIN)/alignway up

# In three processes on two cores: most tests wait for something most of the time. Threads that wait do not spin.
# Hundreds of processes are started: what each would compile anew is kept, even where the environment says otherwise.
# In the order of the folders: long files first, so that none is left over in the end.
test: $(INSTALLED) lmdeploy-env clients-env
	PYTHONDONTWRITEBYTECODE= OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n 3 --dist loadscope --no-loadscope-reorder --durations 40

# Votes while the gateway is killed again and again: at most 45 minutes; the kills of all recorded runs add up.
proof-votes: $(INSTALLED)
	$(BIN)/python -m benchmarks.feedback kills --kills 100 --minutes 45

lmdeploy-env: .venv-lmdeploy/installed

# LMDeploy's pins clash with vLLM's. The heavy packages come from the main environment; LMDeploy's wheel asks for an
# older torch than it needs here, hence --no-deps.
SITE_PACKAGES = -c 'import site; print(site.getsitepackages()[0])'
.venv-lmdeploy/installed: constraints/lmdeploy.txt $(INSTALLED)
	@$(BIN)/python -m venv --without-pip --clear .venv-lmdeploy
	@$(BIN)/python $(SITE_PACKAGES) > "$$(.venv-lmdeploy/bin/python $(SITE_PACKAGES))/main_environment.pth"
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --python .venv-lmdeploy/bin/python install --quiet $(PIP_ARGS) --no-deps -r constraints/lmdeploy.txt
	@touch $@

export-env: .venv-export/installed

# llm-compressor wants a compressed-tensors of its own beside the engines'. The heavy packages come from the main environment.
.venv-export/installed: constraints/export.txt $(INSTALLED)
	@$(BIN)/python -m venv --without-pip --clear .venv-export
	@$(BIN)/python $(SITE_PACKAGES) > "$$(.venv-export/bin/python $(SITE_PACKAGES))/main_environment.pth"
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --python .venv-export/bin/python install --quiet $(PIP_ARGS) --no-deps -r constraints/export.txt
	@touch $@

clients-env: .venv-clients/installed

# What the conformance tests ask through, each client with the pins it came with. The major of the openai SDK before the
# newest runs the newest one's own tests, so it lies over the main environment. Without npm the tests of node are skipped.
# litellm asks for boto3 and hf-xet as well, which nothing here needs, and needs what its extra `mcp` names to take tools.
.venv-clients/installed: $(wildcard constraints/clients/*.txt) tests/conformance/clients/node/package.json $(INSTALLED)
	@echo "installing the clients of the conformance tests into .venv-clients (a minute, 500 MB)"
	@rm -rf .venv-clients
	@for list in constraints/clients/*.txt; do \
		client=.venv-clients/$$(basename $$list .txt); \
		$(BIN)/python -m venv --without-pip $$client && \
		PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --python $$client/bin/python install --quiet $(PIP_ARGS) --no-deps -r $$list \
		|| exit 1; done
	@$(BIN)/python $(SITE_PACKAGES) > "$$(.venv-clients/openai-2/bin/python $(SITE_PACKAGES))/main_environment.pth"
	@mkdir -p .venv-clients/node && cp tests/conformance/clients/node/package.json .venv-clients/node/
	@! command -v npm > /dev/null || npm install --prefix .venv-clients/node --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
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
	rm -rf $(VENV) .venv-lmdeploy .venv-export .venv-clients .alignway build dist

# Longer proofs: bounded, resumable, each run recorded under benchmarks/results/.
.PHONY: proof-swap proof-promotion proof-resume bench-gateway bench-stages bench-training

# Promotions and rollbacks under streams. BENCH_ARGS="--engine vllm --swaps 200" for the real engine.
proof-swap: $(INSTALLED)
	$(BIN)/python -m benchmarks.swap --swaps 1000 --streams 32 --minutes 40 $(BENCH_ARGS)

# kill -9 of every process in the middle of promotions. BENCH_ARGS="--engine vllm --kills 20" for the real engine.
proof-promotion: $(INSTALLED)
	$(BIN)/python -m benchmarks.promotion_kills --kills 200 --minutes 40 $(BENCH_ARGS)

# From the last vote to the first answer of the new release, on the real engine.
bench-stages: $(INSTALLED)
	$(BIN)/python -m benchmarks.stages

# alignway train on the small model, killed at random moments and resumed: the same bytes in the end.
proof-resume: $(INSTALLED)
	$(BIN)/python -m benchmarks.resume --kills 20 --minutes 45

# Alignway beside other gateways, on two cores; installs them into .bench-peers first. BENCH_ARGS=--quick for a look.
bench-gateway: $(INSTALLED)
	$(BIN)/python -m benchmarks.gateway $(BENCH_ARGS)

# The trainer beside TRL and ms-swift: make bench-training BENCH_ARGS="--data PAIRS.jsonl" (about 15 minutes a file).
bench-training: $(INSTALLED)
	$(BIN)/python -m benchmarks.training $(BENCH_ARGS)
