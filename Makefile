# Every command sets itself up: a virtual environment in .venv, made again when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.ready-docs

.PHONY: demo test lint coverage docs clean

demo: $(READY)
	$(VENV)/bin/nnunet-transformers demo --workdir demo

test: $(READY) lint
	$(VENV)/bin/python -m pytest -n 2

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Without what runs in other processes or is slow under a tracer: whole commands of nnU-Net's, and the compiler.
coverage: $(READY)
	$(VENV)/bin/python -m pytest -n 2 -m "not matrix and not end_to_end and not inductor" --cov \
		--ignore=tests/contract/test_compiled.py

docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict
	! grep -rlE '<(script|img|link)[^>]* (src|href)="https?:' --include='*.html' site  # a page that would fetch something

$(READY): pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'Python 3.10 or later is needed; set PYTHON=')"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --progress-bar on -e ".[dev]"
	touch $(READY)

$(DOCS_READY): $(READY)
	$(VENV)/bin/python -m pip install --quiet -e ".[docs]"
	touch $(DOCS_READY)

clean:
	rm -rf $(VENV) demo site .coverage
