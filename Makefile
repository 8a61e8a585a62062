# You only need make and python3 (3.10 to 3.13). Every target installs what it needs into .venv and .build.

PYTHON ?= python3
AIRFLOW = 3.3.2
BIN = .venv/bin
DEV = pytest pytest-xdist ruff mypy types-requests aiohttp openai apache-airflow-providers-http apache-airflow-providers-slack \
      playwright axe-playwright-python

.PHONY: help demo test check platforms matrix bench parallel ui screenshots audit constraints clean

help:
	@echo "make demo         watch a gate wait for a top-up and open, on a real Airflow $(AIRFLOW)"
	@echo "make ui           a real Airflow with the example DAGs and a sandbox account, to explore in the browser"
	@echo "make screenshots  take the pictures of the billing page in docs/images again (needs Chromium)"
	@echo "make test         run all tests (ARGS='-k trigger' for some of them)"
	@echo "make check        run ruff and mypy, check the imports and the contents of the wheel"
	@echo "make platforms    resolve the wheel under the constraints of managed platforms and of the matrix"
	@echo "make matrix       run the tests against each supported Airflow (CELL=2.11.2 for one)"
	@echo "make bench        measure against the alternatives (THEME=parse for one theme)"
	@echo "make parallel     let parallel jobs count each other on real services, and see how many of them spend"
	@echo "make audit        look for known faults in the oldest dependencies that are allowed"
	@echo "make constraints  resolve the libraries of the matrix again"
	@echo "make clean        delete .venv and .build"

.venv/installed: pyproject.toml airflow_provider_aimlbilling/__init__.py constraints/airflow-$(AIRFLOW).txt tools/environment.py
	@$(PYTHON) tools/environment.py .venv $(AIRFLOW) $(DEV) --editable .
	@touch $@

demo: .venv/installed
	@$(BIN)/python tools/demo.py

test: .venv/installed
	$(BIN)/pytest -n 4 --dist loadgroup $(ARGS)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_imports.py
	$(BIN)/python tools/check_wheel.py

platforms: .venv/installed
	@$(BIN)/python tools/platforms.py

matrix: .venv/installed
	$(BIN)/python tools/matrix.py $(CELL)

# Not editable, and compiled to bytecode, as users have it: the benchmarks measure how long it takes to load.
.build/bench/installed: pyproject.toml constraints/airflow-$(AIRFLOW).txt $(shell find airflow_provider_aimlbilling -name '*.py')
	@$(PYTHON) tools/environment.py .build/bench/venv $(AIRFLOW) apache-airflow-providers-http asyncpg psycopg2-binary .
	@touch $@

bench: .build/bench/installed
	@.build/bench/venv/bin/python benchmarks/run.py $(THEME) $(ARGS)

parallel: .venv/installed
	@PYTHONPATH=tests $(BIN)/python tools/parallel_jobs.py $(ARGS)

ui: .venv/installed
	@$(BIN)/python tools/ui.py

screenshots: .venv/installed
	@PYTHONPATH=tests/browser $(BIN)/python tools/screenshots.py

audit:
	$(PYTHON) -m venv .build/audit
	.build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	.build/audit/bin/python tools/audit.py

constraints:
	constraints/update.sh

clean:
	rm -rf .venv .build
