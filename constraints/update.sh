#!/usr/bin/env bash
# Make the constraints anew: for each Airflow a set of libraries of its own time, since newer ones break old Airflows.
# The files hold names and versions alone, and serve all Pythons that the Airflow runs on.
#
# usage: constraints/update.sh [AIRFLOW_VERSION]
set -euo pipefail
cd "$(dirname "$0")/.."
test -x .build/uv/bin/uv || { python3 -m venv .build/uv && .build/uv/bin/pip install --quiet uv; }

make_one() { # AIRFLOW_VERSION DATE [REQUIREMENT…]
    local version=$1 date=$2 set
    shift 2
    set=$(printf '%s\n' "apache-airflow==$version" apache-airflow-providers-common-compat jinja2 requests urllib3 pytest "$@" |
        .build/uv/bin/uv pip compile --quiet --universal --python-version 3.10 --exclude-newer "$date" \
            --exclude-newer-package "apache-airflow-providers-common-compat=${compat_date:-$date}" \
            --no-header --no-annotate -)
    {
        echo "# Airflow $version with the libraries of $date, made by constraints/update.sh"
        echo "$set"
    } >"constraints/airflow-$version.txt"
    echo "constraints/airflow-$version.txt"
}

wanted() { [ -z "${only:-}" ] || [ "$only" = "$1" ]; }
only=${1:-}

if wanted 2.11.2; then make_one 2.11.2 2026-04-10; fi
# This cell tests the floors that pyproject.toml declares. The floor of common-compat is younger than Airflow 3.0.6.
if wanted 3.0.6; then
    compat_date=2026-03-20 make_one 3.0.6 2025-09-20 \
        apache-airflow-providers-common-compat==1.14.1 jinja2==3.1.5 requests==2.32.2 urllib3==2.2.0
fi
if wanted 3.1.8; then make_one 3.1.8 2026-04-10; fi
if wanted 3.2.2; then make_one 3.2.2 2026-07-01; fi
# This set also serves make test, make demo, make check and make bench.
if wanted 3.3.2; then
    make_one 3.3.2 2026-11-15 ruff mypy types-requests flit apache-airflow-providers-http asyncpg psycopg2-binary
fi
