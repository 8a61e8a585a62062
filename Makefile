# Everything installs what it needs into .venv and .build; nothing is needed beforehand but python3 (3.10 to 3.13) and make.

PYTHON ?= python3
AIRFLOW = 3.3.2
BIN = .venv/bin
DEV = pytest ruff mypy types-requests

.PHONY: help demo test check matrix bench ui constraints clean

help:
	@echo "make demo    see a gate wait for a top-up and open, on a real Airflow $(AIRFLOW)"
	@echo "make test    install what is needed and pass the tests"
	@echo "make check   ruff, mypy, what the wheel holds"
	@echo "make matrix  the tests against each supported Airflow (CELL=2.11.2 for one)"
	@echo "make bench   measure us beside what would be used in our place (THEME=parse for one theme)"
	@echo "make ui      a real Airflow with the example DAGs and the sandbox, to click through"

.venv/installed: pyproject.toml airflow_provider_aimlbilling/__init__.py constraints/airflow-$(AIRFLOW).txt tools/environment.py
	@$(PYTHON) tools/environment.py .venv $(AIRFLOW) $(DEV) --editable .
	@touch $@

demo: .venv/installed
	@$(BIN)/python tools/demo.py

test: .venv/installed
	$(BIN)/pytest $(ARGS)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_package.py -k "imports or declared or provider"
	$(BIN)/python tools/check_wheel.py

matrix: .venv/installed
	$(BIN)/python tools/matrix.py $(CELL)

# The package as it is installed elsewhere, byte code included, and not editable: loading it is what is measured.
.build/bench/installed: pyproject.toml constraints/airflow-$(AIRFLOW).txt $(shell find airflow_provider_aimlbilling -name '*.py')
	@$(PYTHON) tools/environment.py .build/bench/venv $(AIRFLOW) apache-airflow-providers-http asyncpg psycopg2-binary .
	@touch $@

bench: .build/bench/installed
	@.build/bench/venv/bin/python benchmarks/run.py $(THEME) $(ARGS)

ui: .venv/installed
	@$(BIN)/python tools/ui.py

constraints:
	constraints/update.sh

clean:
	rm -rf .venv .build
