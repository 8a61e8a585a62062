#!/usr/bin/env bash
# Write the constraints of the matrix's cells: for each Airflow release, the libraries that were current on its release day.
# This is what people have who installed that release and have not upgraded since. Nothing is newer than the release.
# The files hold names and versions only, and serve every Python that the release supports.
#
# usage: constraints/update.sh [AIRFLOW_VERSION]
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(python3 tools/environment.py --uv)
only=${1:-}

write() { # AIRFLOW_VERSION RELEASE_DAY [REQUIREMENT…]
    local version=$1 day=$2
    shift 2
    if [ -n "$only" ] && [ "$only" != "$version" ]; then return; fi
    local file=constraints/airflow-$version.txt pins
    pins=$(printf '%s\n' "apache-airflow==$version" asgiref jinja2 requests urllib3 pytest pytest-xdist "$@" |
        "$uv" pip compile --quiet --universal --python-version 3.10 --exclude-newer "${day}T23:59:59Z" \
            --no-header --no-annotate -)
    printf '# Airflow %s with the libraries of %s, its release day. Written by constraints/update.sh\n%s\n' \
        "$version" "$day" "$pins" >"$file"
    echo "$file"
}

# The release day is the day on which the release was uploaded to the package index (UTC).
write 2.11.0 2025-05-20 psycopg2-binary
write 2.11.2 2026-03-14 psycopg2-binary
# This cell tests the oldest versions that pyproject.toml allows.
write 3.0.6 2025-08-29 asgiref==3.8.1 jinja2==3.1.5 requests==2.32.2 urllib3==2.2.0 asyncpg psycopg2-binary
write 3.1.8 2026-03-11 asyncpg psycopg2-binary
write 3.2.2 2026-05-29 asyncpg psycopg2-binary
# This set also serves make test, demo, check, ui and bench.
write 3.3.2 2026-09-17 apache-airflow-providers-slack aiohttp openai ruff mypy types-requests flit apache-airflow-providers-http asyncpg psycopg2-binary apache-airflow-providers-celery redis
