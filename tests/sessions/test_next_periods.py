"""What later runs make of an environment: drift, more traffic, running everything again."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from wine_quality.wines import INPUTS, QUALITY

# one period each, in this order; the noise is the default of the parameters
SCENARIOS = (
    ("residual_sugar", "noise", 3.0),
    ("sulphates", "shift", 1.0),
    ("pH", "shift", -1.0),
)
SIMULATION = "serving_simulation"
PROJECT = Path(__file__).parents[2]


def drift_parameters(column, kind, size):
    prefix = f"{SIMULATION}.drift"
    scenario = f"{prefix}.scenarios.sweeter"
    return (
        f"{prefix}.enabled=true,{scenario}.column={column},{scenario}.kind={kind},"
        f"{scenario}.standard_deviations={size}"
    )


@pytest.fixture(scope="module")
def drifted_root(whole_run, kedro_here, tmp_path_factory):
    """The whole run's root after a period of each kind of drift, and the monitoring of them."""
    assert whole_run.outcome.status == 0
    root = tmp_path_factory.mktemp("drifted") / "root"
    shutil.copytree(whole_run.root, root)
    for scenario in SCENARIOS:
        sent = kedro_here(
            *("--env", "test", "--pipeline", SIMULATION),
            *("--params", drift_parameters(*scenario)),
            root=root,
        )
        assert sent.status == 0, sent.errors
        assert f"injected drift: sweeter ({scenario[1]} in {scenario[0]}) from" in sent.output
    return root


@pytest.fixture(scope="module")
def monitored(drifted_root, kedro_here):
    outcome = kedro_here("--env", "test", "--pipeline", "monitoring", root=drifted_root)
    assert outcome.status == 0, outcome.errors
    return outcome


@pytest.fixture(scope="module")
def judged(monitored, drifted_root, load):
    names = ["verdicts", "model_verdicts", "alerts", "inference_log"]
    return load(drifted_root, names)


def client(root: Path) -> MlflowClient:
    uri = f"sqlite:///{root}/mlflow.db"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def windows(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    return (rows for _, rows in table.groupby("window_start", sort=True))


def test_each_run_of_traffic_has_a_window_of_its_own(judged):
    sizes = [rows["n"].max() for rows in windows(judged["verdicts"])]
    assert sizes == [200] * (1 + len(SCENARIOS))
    assert len(judged["inference_log"].read()) == 200 * len(sizes)


def test_the_period_before_the_drift_stays_quiet(judged):
    before = next(windows(judged["verdicts"]))
    assert set(before["verdict"]) == {"ok"}


@pytest.mark.parametrize(
    ("position", "scenario"), list(enumerate(SCENARIOS, start=1)), ids=[s[0] for s in SCENARIOS]
)
def test_the_measurement_that_drifted_is_flagged_and_no_other(judged, position, scenario):
    window = list(windows(judged["verdicts"]))[position].set_index("column")["verdict"]
    inputs = window[list(INPUTS)]
    assert inputs[inputs != "ok"].to_dict() == {scenario[0]: "drift"}


def test_the_alerts_name_every_drift_with_its_window_and_reason(judged):
    alerts = pd.DataFrame(judged["alerts"])
    assert set(alerts["verdict"]) <= {"drift", "decayed"}
    starts = sorted(judged["verdicts"]["window_start"].unique())
    measured = alerts[alerts["subject"].isin(INPUTS)].set_index("subject")
    for (column, *_), start in zip(SCENARIOS, starts[1:], strict=True):
        alert = measured.loc[column]
        assert start <= pd.Timestamp(alert["found"]) < start + pd.Timedelta("1D")
        assert pd.Timestamp(alert["since_earliest"]) <= start + pd.Timedelta("6h")
        assert pd.Timestamp(alert["since_latest"]) >= start - pd.Timedelta("1h")
        assert alert["reason"]


def test_several_drifts_at_once_are_each_told_of(
    kedro_here, after_whole_run, project_environment, load
):
    name = "parameters_serving_simulation.yml"
    text = (PROJECT / "conf" / "drift" / name).read_text()
    environment = project_environment(files={name: text}, root=str(after_whole_run))
    outcome = kedro_here(
        *environment, "--pipelines", f"{SIMULATION},monitoring", root=after_whole_run
    )
    assert outcome.status == 0, outcome.errors
    made = load(after_whole_run, ["verdicts", "injected_drift"])
    told = made["verdicts"].query("verdict in ('drift', 'data_quality')")
    injected = {row["subject"] for row in made["injected_drift"]}
    assert injected == {"residual_sugar", "type", "alcohol"}
    assert injected <= set(told["column"])
    assert set(told["window_start"]) == {pd.Timestamp("2026-01-02", tz="UTC")}


def test_a_session_that_is_not_tracked_leaves_the_last_ones_run_alone(monitored, drifted_root):
    assert mlflow.active_run() is None
    registry = client(drifted_root)
    (experiment,) = (e for e in registry.search_experiments() if e.name == "wine_quality")
    runs = registry.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    named = {run.info.run_name: run for run in runs}
    assert not [name for name in named if name.startswith("monitoring")]
    sent = [run for name, run in named.items() if name.startswith(f"{SIMULATION}, test: ")]
    assert sent
    for run in sent:
        assert not [name for name in run.data.params if name.startswith("monitoring")]


def test_the_summary_shows_the_newest_window(monitored):
    assert f"Newest of {1 + len(SCENARIOS)} windows" in monitored.output
    assert "of the source simulation, from 2026-01-04 00:00 UTC" in monitored.output
    told = [line.split() for line in monitored.output.splitlines()]
    assert ["pH", "drift"] in [words[:2] for words in told]
    assert ["residual", "sugar", "ok"] in [words[:3] for words in told]


def test_running_everything_again_is_safe(drifted_root, monitored, kedro_here, load, tmp_path):
    root = shutil.copytree(drifted_root, tmp_path / "again")
    outcome = kedro_here("--env", "test", root=root)
    assert outcome.status == 0, outcome.errors

    registry = client(root)
    by_alias = {
        alias: str(registry.get_model_version_by_alias("wine-quality", alias).version)
        for alias in ("champion", "challenger")
    }
    assert by_alias == {"champion": "1", "challenger": "2"}
    assert (
        "version 2 is challenger; version 1 stays champion: it is not better with confidence"
        in outcome.output
    )

    made = load(root, ["promotion", "inference_log", "verdicts", "alerts", "held_out_metrics"])
    assert made["promotion"]["promoted"] is False
    log = made["inference_log"].read()
    assert set(log["model_version"]) == {"1"}, "the champion goes on answering"
    assert log[QUALITY].notna().all()
    *_, newest = windows(made["verdicts"])
    assert newest["window_start"].iloc[0] == pd.Timestamp("2026-01-05", tz="UTC")
    assert set(newest["verdict"]) == {"ok"}
    # what was found before is found again
    assert {scenario[0] for scenario in SCENARIOS} <= {alert["subject"] for alert in made["alerts"]}


def test_the_same_wines_and_parameters_give_the_same_model(whole_run, kedro_here, load, tmp_path):
    root = Path(shutil.copytree(whole_run.root, tmp_path / "same"))
    names = ["training_wines", "held_out_wines", "comparison", "reference"]
    before = load(root, names)
    outcome = kedro_here("--env", "test", "--pipelines", "processing,training", root=root)
    assert outcome.status == 0, outcome.errors
    after = load(root, names)
    for name in ("training_wines", "held_out_wines"):
        pd.testing.assert_frame_equal(after[name], before[name])
    # threads add up the trees in any order, which moves the last digits
    pd.testing.assert_frame_equal(after["reference"], before["reference"], rtol=1e-9)
    columns = ["candidate", "rank", "rmse", "mae", "r2"]
    pd.testing.assert_frame_equal(
        after["comparison"][columns], before["comparison"][columns], rtol=1e-9
    )


def verdicts_of(load, root):
    found = load(root, ["verdicts", "verdict_history"])
    return found["verdicts"], found["verdict_history"].history()


def test_two_monitoring_runs_at_once_both_succeed(after_whole_run, start_apart, load):
    before = verdicts_of(load, after_whole_run)
    both = [
        start_apart("--env", "test", "--pipeline", "monitoring", root=after_whole_run)
        for _ in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    for table, known in zip(verdicts_of(load, after_whole_run), before, strict=True):
        pd.testing.assert_frame_equal(table, known)
