#!/bin/sh
# Writes the four hashed lock files from pyproject.toml: what runs in production, what the local stack adds, what
# developers add to that, and what `make bench` compares with, which goes beside the developers' packages. One set of
# versions for every Python and system. Needs uv (it is in the dev lock).
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
compile() { # compile OUTPUT ARGUMENTS...
    output=$1; shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links --output-file "$output" "$@" pyproject.toml
}
compile requirements-dev.txt --extra local --group dev ${UPGRADE:+--upgrade}
compile requirements-local.txt --extra local --constraint requirements-dev.txt
compile requirements.txt --constraint requirements-dev.txt
compile requirements-bench.txt --extra local --group bench --constraint requirements-dev.txt
