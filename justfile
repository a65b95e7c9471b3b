# The project's one task vocabulary. `./just RECIPE` works on a machine with nothing but Python.

export PATH := justfile_directory() / ".venv/bin" + ":" + env("PATH")

# `just` passes SIGTERM on to the process of a recipe's line: `exec` makes that the command itself
# instead of a shell before it. Servers that start further processes do not pass it on, this does.
server := "exec python -m wine_quality.system.foreground"

# MLflow's pages for one person: four workers and those of jobs that nobody has would each import it
export MLFLOW_WORKERS := env("MLFLOW_WORKERS", "1")
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")

uv_compile := "uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'just lock'"

# list the recipes
default:
    @just --list

# make or renew .venv; `./just` has done so before any recipe runs
setup:
    @echo ".venv is up to date"

# add the optional parts to .venv, as locked: Spark (which needs Java 17), S3, Prefect and Dask
extras:
    ./just extras

# raw wines to monitoring verdicts; arguments go to `kedro run`
run *arguments:
    exec kedro run {{ arguments }}

# send wines to the hosted model, then their ground truth: `just traffic 500`, `just traffic 500 true`
traffic samples="200" drift="false" *arguments:
    exec kedro run --pipeline serving_simulation --params serving_simulation.samples={{ samples }},serving_simulation.drift.enabled={{ drift }} {{ arguments }}

# hand in the ground truth that was held back
labels *arguments:
    exec kedro run --pipeline ground_truth {{ arguments }}

# search settings of the candidates, for the next training to use
tune *arguments:
    exec kedro run --pipeline tuning {{ arguments }}

# answer predictions with the champion
serve *arguments:
    exec python -m wine_quality.serving serve {{ arguments }}

# serve the champion the MLflow way; MLflow loads whatever a version names, so its files are checked first
serve-mlflow port="5001":
    #!/bin/sh
    set -e
    export MLFLOW_TRACKING_URI="${MLFLOW_TRACKING_URI:-sqlite:///data/mlflow.db}"
    model="$(python -m wine_quality.serving check --tracking-uri "$MLFLOW_TRACKING_URI")"
    {{ server }} mlflow models serve -m "$model" --env-manager local -p {{ port }}

# load a local service, and write the report
load *arguments:
    mkdir -p data/08_reporting
    exec locust --headless --users 20 --run-time 1m --host http://127.0.0.1:8000 --html data/08_reporting/load.html {{ arguments }}

# judge the logged traffic
monitor *arguments:
    exec kedro run --pipeline monitoring {{ arguments }}

# open the lineage
viz *arguments:
    {{ server }} kedro viz run {{ arguments }}

# open Evidently's pages with the reports of all runs
[no-exit-message]
evidently workspace="data/08_reporting/evidently_workspace" port="8002":
    @case "{{ workspace }}" in *://*) ;; *) test -d "{{ workspace }}" || { echo "Error: There are no reports in {{ workspace }} yet: run './just monitor' first." >&2; exit 1; } ;; esac
    {{ server }} env DO_NOT_TRACK=true evidently ui --host 127.0.0.1 --port {{ port }} --workspace "{{ workspace }}"

# Prefect's server, the schedules of conf/base/orchestration.yml and their runs, on this machine
schedule *arguments:
    exec python -m wine_quality.orchestration serve {{ arguments }}

# judge the logged traffic, then keep the champion, train again or take it back; needs ./just extras
loop *arguments:
    exec python -m wine_quality.orchestration run loop {{ arguments }}

# bring the schedules to the Prefect server that PREFECT_API_URL names
deploy *arguments:
    exec python -m wine_quality.orchestration deploy {{ arguments }}

# open the tracked runs and the model registry
mlflow *arguments:
    @echo "Add to the address below: /#/experiments/1 for the runs, /#/models for the registry."
    {{ server }} kedro mlflow ui {{ arguments }}

# all tests; a file's tests stay in one process, and files with slow ones begin first
test *arguments:
    exec pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder {{ arguments }}

# the tests that need no process, server, registry or training, chosen by what they use
quick *arguments:
    exec pytest --quick --numprocesses auto --maxprocesses 4 --dist loadfile {{ arguments }}

# all tests with branch coverage, which takes half as long again
coverage: (test "--cov --cov-report=term-missing:skip-covered")

# style, types, directions of imports, the workflow on GitHub
lint:
    ruff check .
    ruff format --check .
    mypy
    lint-imports
    zizmor --offline --quiet .github/workflows

# mend what can be mended by machine
format:
    ruff check --fix .
    ruff format .

# draw the embedded sample again; it comes out byte for byte as committed
sample:
    python -m wine_quality.traffic.synthetic data/01_raw/sample

# add what builds the documentation to .venv, as locked
docs-tools:
    ./just docs-tools

# build the documentation as a site in site/; `just docs serve` shows it while it is written
docs command="build" *arguments: docs-tools
    exec env NO_MKDOCS_2_WARNING=1 mkdocs {{ command }} {{ arguments }}

# resolve all dependencies again, into the locks
lock:
    {{ uv_compile }} pyproject.toml --all-extras --output-file requirements-all.lock
    {{ uv_compile }} pyproject.toml --extra dev --constraint requirements-all.lock --output-file requirements.lock
    {{ uv_compile }} pyproject.toml --extra orchestration --extra postgres --extra s3 --constraint requirements-all.lock --output-file requirements-production.lock
    {{ uv_compile }} --group docs --constraint requirements-all.lock --output-file requirements-docs.lock

# what a commit has to pass
check: lint coverage
    kedro run --env test
