# Everything from a bare clone: `make demo` and `make test` set up what they need and say so.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := $(VENV)/.peers
TESTS  ?= tests
DATA   ?=

export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help setup model demo test check bench matrix engines wheel clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## a virtual environment with every package

$(READY): pyproject.toml constraints.txt scripts/setup
	@PYTHON="$(PYTHON)" VENV="$(VENV)" scripts/setup
	@touch $@

model: $(READY)  ## the embedded models' weights
	@$(BIN)/tersely models pull smollm2
	@$(BIN)/tersely models pull minilm

demo: model  ## compress real long prompts and answer them: make demo [FILE=... QUESTION=...]
	@$(BIN)/python examples/demo.py $(if $(FILE),--file "$(FILE)") $(if $(QUESTION),--question "$(QUESTION)")

test: model  ## every test
	@echo "tersely: running the tests"
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile $(TESTS)

check: $(READY)  ## style and types
	@echo "tersely: style (ruff) and types (mypy --strict)"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy -p tersely
	@$(BIN)/mypy tests/typing benchmarks examples scripts

bench: model $(PEERS)  ## every benchmark: make bench [DATA=folder]
	@$(BIN)/python -m benchmarks $(if $(DATA),--data "$(DATA)")

$(PEERS): $(READY)
	@echo "tersely: installing the packages that the benchmarks compare with"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group bench
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps selective-context==0.1.4
	@touch $@

matrix: $(READY)  ## the client wrapper against the oldest and newest SDK majors
	@scripts/matrix

engines: model  ## the contract of backends on real llama.cpp and vLLM
	@scripts/engines

wheel: $(READY)  ## build the wheel and sdist, and test the wheel with the sources out of reach
	@scripts/wheel

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
