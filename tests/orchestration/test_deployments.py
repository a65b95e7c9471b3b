"""`python -m wine_quality.orchestration`: what it plans, deploys and refuses."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import yaml

from wine_quality.orchestration.__main__ import main
from wine_quality.orchestration.deployments import make_plan

pytestmark = pytest.mark.skipif(
    find_spec("prefect") is None, reason="Prefect is an extra: './just extras'"
)
PROJECT = Path(__file__).parents[2]
ENVIRONMENTS = sorted(path.name for path in (PROJECT / "conf").iterdir() if path.is_dir())


@pytest.fixture(autouse=True)
def _inside_the_project(monkeypatch, tmp_path):
    monkeypatch.chdir(PROJECT)
    monkeypatch.delenv("KEDRO_ENV", raising=False)
    monkeypatch.setenv("WINE_QUALITY_TEST_ROOT", str(tmp_path))


@pytest.fixture
def conf(tmp_path):
    """Writes `orchestration.yml` of a copied configuration; gives the copy."""
    folder = tmp_path / "conf"
    shutil.copytree(PROJECT / "conf", folder)
    base = yaml.safe_load((folder / "base" / "orchestration.yml").read_text())

    def write(**changes):
        (folder / "base" / "orchestration.yml").write_text(yaml.safe_dump(base | changes))
        return str(folder)

    return write


@pytest.fixture
def command(capsys):
    """Runs a command in this process; gives its status, output and errors."""

    def run(*arguments):
        status = main(arguments)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_environment_has_a_plan(env):
    plan = make_plan(env)
    assert {"monitoring", "simulation", "training"} <= plan.settings.deployments.keys()
    for name, deployment in plan.settings.deployments.items():
        assert plan.name(name) == f"{env}.{name}"
        assert plan.parameters(deployment)["env"] == env


def test_the_environment_of_the_process_is_the_one_deployed(monkeypatch):
    monkeypatch.setenv("KEDRO_ENV", "test")
    assert make_plan(None).env == "test"
    assert make_plan("week").env == "week"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"deployments": {"one": {"pipeline": "processing,monitorin"}}},
            "deployments.one.pipeline: there is no pipeline 'monitorin', choose __default__, pro",
        ),
        (
            {"deployments": {"one": {"pipeline": "monitoring", "env": "nowhere"}}},
            "deployments.one: There is no environment 'nowhere' in CONF: choose base, ",
        ),
        (
            {
                "deployments": {
                    "one": {"pipeline": "monitoring", "params": {"monitoring": {"drit": 1}}}
                }
            },
            "deployments.one: Wrong parameters: monitoring.drit: there is no such parameter",
        ),
        (
            {"deployments": {"one": {"pipeline": "monitoring", "cron": "hourly"}}},
            "Wrong settings of orchestration.yml: deployments.one.cron: Value error, 'hourly' does",
        ),
        (
            {"retries": {"once": {"nodes": ["training.decide_promotions"]}}},
            "retries.once.nodes: no node is called 'training.decide_promotions'",
        ),
    ],
)
@pytest.mark.parametrize("name", ["deploy", "serve"])
def test_a_mistake_is_one_line_before_anything_is_done(command, conf, changes, told, name):
    folder = conf(**changes)
    status, output, errors = command(name, "--conf-source", folder)
    assert (status, output) == (1, "")
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1
    assert told.replace("CONF", folder) in errors


def test_an_unknown_environment_or_deployment_is_named(command):
    said = f"There is no environment 'mars' in {PROJECT / 'conf'}: choose base, "
    assert said in command("deploy", "--env", "mars")[2]
    status, _, errors = command("run", "monitorin", "--env", "test")
    assert status == 1
    assert errors == (
        "Error: There is no deployment 'monitorin' in orchestration.yml: "
        "choose monitoring, loop, simulation, training.\n"
    )


def test_deploying_needs_a_server_that_answers(command):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert "Error: PREFECT_API_URL names no server" in command("deploy", "--env", "test")[2]
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        status, _, errors = command("deploy", "--env", "test")
    assert status == 1
    assert "http://127.0.0.1:9/api does not answer" in errors


@pytest.mark.slow
def test_deploying_again_changes_nothing_and_what_is_gone_is_removed(command, conf, prefect_server):
    def deployed():
        # without what the server counts and dates, and what other tests deployed there
        ours = {"deployments": {"name": {"any_": ["test.one", "test.other", "drift.one"]}}}
        found = httpx.post(f"{prefect_server}/deployments/filter", json=ours, timeout=30).json()
        kept = ("id", "tags", "parameters", "entrypoint", "work_pool_name", "job_variables")
        kept += ("paused", "concurrency_options")
        return {
            one["name"]: {key: one[key] for key in kept}
            | {"schedules": [(s["active"], s["schedule"]) for s in one["schedules"]]}
            | {"limit": one["global_concurrency_limit"]["limit"]}
            for one in found
        }

    one = {"pipeline": "processing", "cron": "0 3 * * 1", "timezone": "Europe/Lisbon"}
    other = {
        "pipeline": "monitoring",
        "interval": 3600,
        "concurrency_limit": 2,
        "collision": "cancel_new",
        "params": {"monitoring": {"alerts": {"false_alerts_per_month": 2}}},
    }
    both = conf(deployments={"one": one, "other": other})
    status, output, errors = command("deploy", "--env", "test", "--conf-source", both)
    assert status == 0, errors
    assert output == (
        "created wine-quality/test.one: processing in test, at 0 3 * * 1 (Europe/Lisbon)\n"
        "created wine-quality/test.other: monitoring in test, every 3,600 seconds\n"
    )
    first = deployed()
    assert first.keys() == {"test.one", "test.other"}
    made = first["test.other"]
    assert made["work_pool_name"] == "wine-quality"
    assert made["job_variables"] == {"working_dir": str(PROJECT)}
    assert made["entrypoint"] == "wine_quality.orchestration.flows.run_pipeline"
    assert (made["limit"], made["concurrency_options"]["collision_strategy"]) == (2, "CANCEL_NEW")
    assert made["parameters"]["params"] == other["params"]
    assert [schedule["interval"] for _, schedule in made["schedules"]] == [3600]
    assert first["test.one"]["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    ((active, schedule),) = first["test.one"]["schedules"]
    assert active
    assert (schedule["cron"], schedule["timezone"]) == (one["cron"], one["timezone"])
    pool = httpx.get(f"{prefect_server}/work_pools/wine-quality", timeout=30).json()
    assert pool["type"] == "process"

    status, output, _ = command("deploy", "--env", "test", "--conf-source", both)
    assert output.count("updated ") == 2
    assert deployed() == first

    # another environment's deployments are none of this one's business
    fewer = conf(deployments={"one": one})
    command("deploy", "--env", "drift", "--conf-source", fewer)
    _, output, _ = command("deploy", "--env", "test", "--conf-source", fewer)
    assert "removed test.other: orchestration.yml does not list it any more\n" in output
    assert deployed().keys() == {"test.one", "drift.one"}
