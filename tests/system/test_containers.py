"""Dockerfile and compose.yaml without an engine: their commands run here, on loopback."""

import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa
import yaml

from wine_quality.serving.access import new_key

PROJECT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((PROJECT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"] == "wine-quality")
# what compose.yaml says of hosts, and where these are in the test
HOSTS = {"mlflow": 5000, "prefect": 4200, "service": 8000}


def test_the_image_copies_what_is_there_and_what_is_not_ignored():
    lines = (PROJECT / "Dockerfile").read_text().splitlines()
    copied = [
        source
        for line in lines
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert {"src", "conf", "requirements-production.lock", "data/01_raw/sample"} <= set(copied)
    allowed = (PROJECT / ".dockerignore").read_text().splitlines()
    for source in copied:
        assert (PROJECT / source).exists()
        assert f"!{source}" in allowed
    # nobody is root where wines are answered
    assert lines.index("USER 10001") < next(n for n, x in enumerate(lines) if x.startswith("CMD"))


def test_what_is_waited_for_has_a_health_check_or_ends():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], (name, other)
            else:
                assert SERVICES[other]["restart"] == "no", (name, other)
    mounted = {
        volume.partition(":")[0] for s in SERVICES.values() for volume in s.get("volumes", ())
    }
    assert mounted == COMPOSE["volumes"].keys()


def test_the_production_lock_holds_what_the_image_runs_and_no_tools():
    lock = (PROJECT / "requirements-production.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock, re.M))
    assert {"kedro", "mlflow", "prefect", "asyncpg", "psycopg", "adbc-driver-postgresql"} <= locked
    assert not locked & {"pytest", "ruff", "mypy", "jupyterlab", "pyspark", "moto"}
    # the same versions as everywhere else
    everything = (PROJECT / "requirements-all.lock").read_text()
    pins = set(re.findall(r"^[a-z0-9-]+==\S+", lock, re.M))
    assert pins <= set(re.findall(r"^[a-z0-9-]+==\S+", everything, re.M))


@pytest.fixture
def databases():
    """The databases of compose.yaml in the PostgreSQL of the tests; their addresses by name."""
    server = os.environ.get("WINE_QUALITY_TEST_POSTGRES_URL")
    if not server:
        pytest.skip("set WINE_QUALITY_TEST_POSTGRES_URL to run the commands of compose.yaml")
    url = sa.make_url(server).set(drivername="postgresql+psycopg")
    made = re.findall(r"CREATE DATABASE (\w+);", COMPOSE["configs"]["databases"]["content"])
    made.append(SERVICES["postgres"]["environment"]["POSTGRES_DB"])
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    names = {name: f"test_{name}_{uuid4().hex}" for name in made}
    with engine.connect() as connection:
        for name in names.values():
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield {name: url.set(database=own) for name, own in names.items()}
    with engine.connect() as connection:
        for name in names.values():
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture
def here(databases, free_port, tmp_path):
    """Gives a service's command and variables as they are here instead of in a container."""
    ports = {name: free_port() for name in HOSTS}
    _, line = new_key("cellar", ["read", "write"])
    known = {"POSTGRES_PASSWORD": "", "WINE_QUALITY_API_KEYS": line.line()}

    def translate(text):
        text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: known[found[1]], text)
        for name, port in HOSTS.items():
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{ports[name]}")
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ports[name]}")
            text = text.replace(f"--port={port}", f"--port={ports[name]}")
        for name, url in databases.items():
            address = url.render_as_string(hide_password=False).partition("://")[2]
            text = re.sub(rf"wine:@postgres/{name}\b", lambda _, at=address: at, text)
        text = text.replace("0.0.0.0", "127.0.0.1")
        return text.replace("/artifacts", str(tmp_path / "artifacts"))

    def give(name):
        service = SERVICES[name]
        command = service.get("command", ["python", "-m", "wine_quality.serving", "serve"])
        program = Path(sys.executable).with_name(command[0])
        variables = {key: translate(str(value)) for key, value in service["environment"].items()}
        variables |= {"PREFECT_HOME": str(tmp_path / "prefect"), "WINE_QUALITY_ROOT": str(tmp_path)}
        variables |= {"WINE_QUALITY_PORT": str(ports["service"])}
        health = service.get("healthcheck", {}).get("test")
        return (
            [str(program), *map(translate, command[1:])],
            {**os.environ, **variables},
            [sys.executable, *map(translate, health[2:])] if health else None,
            ports.get(name),
        )

    return give


@pytest.mark.slow
def test_the_commands_of_all_services_run(here, run_server, tmp_path):
    pytest.importorskip("prefect", reason="Prefect is an extra: ./just extras")

    def is_healthy(check):
        return subprocess.run(check, capture_output=True, timeout=60, check=False).returncode == 0

    with ExitStack() as stack:

        def start(name, page):
            command, variables, check, port = here(name)
            address = f"http://127.0.0.1:{port}{page}"
            options = {"cwd": PROJECT, "env": variables}
            lines = tmp_path / f"{name}.log"
            stack.enter_context(run_server(command, address, lines, **options))
            assert check is None or is_healthy(check)
            return variables

        start("mlflow", "/health")
        start("prefect", "/api/health")
        command, variables, _, _ = here("deploy")
        subprocess.run(command, cwd=PROJECT, env=variables, check=True, timeout=300)
        api = variables["PREFECT_API_URL"]
        deployed = httpx.post(f"{api}/deployments/filter", json={}, timeout=30).json()
        assert {"production.monitoring", "production.loop"} <= {one["name"] for one in deployed}
        command, variables, _, _ = here("worker")
        worker = subprocess.Popen(command, cwd=PROJECT, env=variables, start_new_session=True)
        try:
            deadline = time.monotonic() + 120
            while True:
                pool = httpx.get(f"{api}/work_pools/wine-quality", timeout=30).json()
                if pool["status"] == "READY":
                    break
                assert worker.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.5)
        finally:
            worker.terminate()
            worker.wait(60)
        # alive at once, ready with the first champion
        variables = start("service", "/health/live")
        assert variables["WINE_QUALITY_TRACKING_URI"].startswith("http://127.0.0.1")
        health = (PROJECT / "Dockerfile").read_text().partition("HEALTHCHECK")[2]
        (code,) = re.findall(r'"-c", "(.+)"\]', health)
        port = variables["WINE_QUALITY_PORT"]
        assert not is_healthy([sys.executable, "-c", code.replace("8000", port)])
