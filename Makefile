# You only need make and python3 (3.10 to 3.13). Every target installs what it needs into .venv and .build.

PYTHON ?= python3
AIRFLOW = 3.3.2
BIN = .venv/bin
DEV = pytest pytest-xdist ruff mypy types-requests aiohttp openai apache-airflow-providers-http apache-airflow-providers-slack \
      playwright axe-playwright-python

.PHONY: help demo test test-distributed check platforms matrix bench parallel soak ui screenshots audit constraints \
	dist docs release-check sbom clean

help:
	@echo "make demo         watch a gate wait for a top-up and open, on a real Airflow $(AIRFLOW)"
	@echo "make ui           a real Airflow with the example DAGs and a sandbox account, to explore in the browser"
	@echo "make screenshots  take the pictures of the billing page in docs/images again (needs Chromium)"
	@echo "make test         run all tests (ARGS='-k trigger' for some of them)"
	@echo "make test-distributed  kill and restart parts of a distributed Airflow while gates wait (Redis, PostgreSQL)"
	@echo "make check        run ruff and mypy, check the imports, the contents of the wheel and the workflows"
	@echo "make platforms    resolve the wheel under the constraints of managed platforms and of the matrix"
	@echo "make matrix       run the tests against each supported Airflow (CELL=2.11.2 for one)"
	@echo "make bench        measure against the alternatives (THEME=parse for one theme)"
	@echo "make parallel     let parallel jobs count each other on real services, and see how many of them spend"
	@echo "make soak         let a triggerer poll for a thousand gates for half an hour, with faults at random"
	@echo "make audit        look for known vulnerabilities in the oldest dependencies that are allowed"
	@echo "make docs         build the documentation site into .build/site"
	@echo "make dist         build the source distribution and the wheel, the same bytes each time"
	@echo "make sbom         list what an installation consists of, as a CycloneDX bill of materials"
	@echo "make release-check  build, inspect and install what would be published, and run the demo from it"
	@echo "make constraints  resolve the libraries of the matrix again"
	@echo "make clean        delete .venv and .build"

.venv/installed: pyproject.toml airflow_provider_aimlbilling/__init__.py constraints/airflow-$(AIRFLOW).txt tools/environment.py
	@$(PYTHON) tools/environment.py .venv $(AIRFLOW) $(DEV) --editable .
	@touch $@

demo: .venv/installed
	@$(BIN)/python tools/demo.py

# The system tests start real services, which lose tasks on a machine that is busy with other tests. Exit code 5: no test
# matches ARGS.
test: .venv/installed
	$(BIN)/pytest -n 4 --dist loadgroup --ignore=tests/system --ignore=tests/browser $(ARGS) || [ $$? = 5 ]
	$(BIN)/pytest tests/system tests/browser $(ARGS) || [ $$? = 5 ]

test-distributed: .venv/installed
	$(BIN)/pytest tests/distributed $(ARGS)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_imports.py
	$(BIN)/python tools/check_wheel.py
	$(BIN)/python tools/check_workflows.py

platforms: .venv/installed
	@$(BIN)/python tools/platforms.py

matrix: .venv/installed
	$(BIN)/python tools/matrix.py $(CELL) $(ARGS)

# Not editable, and compiled to bytecode, as users have it: the benchmarks measure how long it takes to load.
.build/bench/installed: pyproject.toml constraints/airflow-$(AIRFLOW).txt $(shell find airflow_provider_aimlbilling -name '*.py')
	@$(PYTHON) tools/environment.py .build/bench/venv $(AIRFLOW) apache-airflow-providers-http asyncpg psycopg2-binary .
	@touch $@

bench: .build/bench/installed
	@.build/bench/venv/bin/python benchmarks/run.py $(THEME) $(ARGS)

parallel: .venv/installed
	@PYTHONPATH=tests $(BIN)/python tools/parallel_jobs.py $(ARGS)

soak: .venv/installed
	@$(BIN)/python tools/soak.py $(ARGS)

ui: .venv/installed
	@$(BIN)/python tools/ui.py

screenshots: .venv/installed
	@PYTHONPATH=tests/browser $(BIN)/python tools/screenshots.py

audit:
	$(PYTHON) -m venv .build/audit
	.build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	.build/audit/bin/python tools/audit.py

docs:
	@$(PYTHON) tools/docs.py

dist:
	@$(PYTHON) tools/distributions.py

sbom: dist
	@$(PYTHON) tools/sbom.py $(AIRFLOW)

release-check:
	@$(PYTHON) tools/release_check.py $(AIRFLOW)

constraints:
	constraints/update.sh

clean:
	rm -rf .venv .build
