# Two commands: `make speedrun` trains a model, `make test` tests the code. Each sets up .venv first.
# The first Python that is new enough: transformers needs 3.11.
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_TO_TEST := $(VENV)/.ready_to_test
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Apart from the rest: where torchao is installed, every program that imports transformers prints its warnings.
TORCHAO := $(VENV)/torchao
NEED_TORCHAO := tests/benchmarks/test_formats.py tests/modeling_nanochat/test_quantization.py \
	tests/recipes/training/test_precision.py
CODE := modeling_nanochat tokenizer recipes evals space benchmarks docs notebooks tests
PRESET ?= auto
DEPTH ?=
SEED ?=
RUN ?=
BUNDLE ?=
WORKERS ?= 2
TEXT ?= data/shakespeare/input.txt
PROMPT ?= ROMEO:
KIND = $(if $(filter gpu,$(PRESET)),gpu,cpu)
CHARACTERS = $(or $(RUN),runs/shakespeare-$(KIND))

.PHONY: speedrun shakespeare install test test-fast quality style bench clean

speedrun: $(READY)
	$(BIN)/python -m recipes.speedrun --preset $(PRESET) $(if $(DEPTH),--depth $(DEPTH)) \
		$(if $(SEED),--seed $(SEED)) $(if $(RUN),--run_dir $(RUN)) $(if $(BUNDLE),--core_bundle $(BUNDLE))

# A model of single characters from one text file, or a dataset of the Hub: docs/shakespeare.md.
shakespeare: $(READY)
	$(BIN)/python -m tokenizer.train --dataset $(TEXT) --document_separator whole --vocab_size 265 \
		--output_dir $(CHARACTERS)/tokenizer
	$(BIN)/python recipes/pretrain.py --config recipes/configs/shakespeare_char/$(KIND).yaml --dataset $(TEXT) \
		--tokenizer $(CHARACTERS)/tokenizer --output_dir $(CHARACTERS)/base
	$(BIN)/python -m evals.samples --model $(CHARACTERS)/base --prompt "$(PROMPT)"

install: $(READY)

test: $(READY_TO_TEST)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(WORKERS)
	HF_HUB_OFFLINE=1 PYTHONPATH=$(TORCHAO) $(BIN)/python -m pytest $(NEED_TORCHAO)

# What is left out here takes long, opens a browser or launches several processes.
test-fast: $(READY_TO_TEST)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not slow and not launch and not browser"

quality: $(READY_TO_TEST)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

style: $(READY_TO_TEST)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(READY_TO_TEST)
	$(BIN)/python -m benchmarks.data
	$(BIN)/python -m benchmarks.pretrain

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[peft]'
	@touch $(READY)

$(READY_TO_TEST): $(READY)
	$(INSTALL) -e '.[dev,harness,launch,peft,serve,space]'
	$(INSTALL) --no-deps --upgrade --target $(TORCHAO) torchao
	@touch $(READY_TO_TEST)

clean:
	rm -rf $(VENV) build *.egg-info
