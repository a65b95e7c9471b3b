"""What `kedro run` comes to: what it says, and what it leaves behind."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.models import Model

from wine_quality.drift.evidently_reports import KINDS
from wine_quality.drift.reference import JOINT
from wine_quality.drift.verdicts import COPIES, TRAFFIC
from wine_quality.wines import INPUTS, MEASUREMENTS, PREDICTION, QUALITY, QUALITY_BOUNDS, TYPE

PROJECT = Path(__file__).parents[2]
CANDIDATES = {"decision_tree_classifier", "extra_trees_regressor", "k_neighbors_regressor"}
SUBJECTS = {*INPUTS, PREDICTION, JOINT, COPIES, TRAFFIC}


@pytest.fixture(scope="module")
def made(whole_run, load):
    assert whole_run.outcome.status == 0, whole_run.outcome.errors
    names = [
        "accepted_wines",
        "alerts",
        "champion",
        "comparison",
        "drift_figure",
        "error_figure",
        "decision_tree_classifier_best_settings",
        "decision_tree_classifier_scores",
        "held_out_intervals",
        "held_out_metrics",
        "held_out_wines",
        "k_neighbors_regressor_best_settings",
        "model_card_md",
        "inference_log",
        "model_verdicts",
        "promotion",
        "reference",
        "rejected_wines",
        "split_audit",
        "traffic_summary",
        "training_wines",
        "verdicts",
        "wine_audit",
        "evidently_pages",
        "evidently_workspace",
        "verdict_history",
    ]
    found = load(whole_run.root, names)
    return found | {"reports": found["evidently_workspace"].read()}


@pytest.fixture(scope="module")
def summary(whole_run):
    """The summary's lines, without the log before it."""
    _, _, text = whole_run.outcome.output.partition(" wine_quality ─")
    return [line.strip() for line in text.splitlines()]


@pytest.fixture(scope="module")
def registry(whole_run):
    uri = f"sqlite:///{whole_run.root}/mlflow.db"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def line_about(lines, *words):
    found = [line for line in lines if all(word in line for word in words)]
    assert len(found) == 1, f"{words}: {found}"
    return found[0]


def test_it_succeeds_without_a_warning(whole_run):
    everything = whole_run.outcome.output + whole_run.outcome.errors
    assert whole_run.outcome.status == 0, everything
    for alarming in ("WARNING", "ERROR", "Error", "Warning", "Traceback"):
        assert alarming not in everything


def test_the_summary_counts_the_wines_of_the_raw_files(summary, made):
    files = sorted((PROJECT / "data/01_raw/sample").glob("*.csv"))
    rows = sum(len(path.read_text().splitlines()) - 1 for path in files)
    line = line_about(summary, " read, ", " accepted ")
    assert line.startswith(f"{rows:,} read, {rows:,} accepted (")
    assert line.endswith("0 rejected")
    split = line_about(summary, " for training, ")
    assert f"{len(made['training_wines']):,} for training" in split
    assert f"{len(made['held_out_wines']):,} held out, 0 of them also among" in split


def test_the_summary_ranks_the_candidates_with_their_scores(summary, made):
    start = summary.index("Candidates")
    for position, row in enumerate(made["comparison"].itertuples()):
        line = summary[start + 2 + position]
        assert line.startswith(f"{row.rank}  {row.candidate.replace('_', ' ')}")
        assert f" {row.rmse:.3f} ± {row.rmse_std:.3f} " in line
        assert row.rank == 1 or f" {row.behind:+.3f} ± " in line
        assert f" {row.mae:.3f} " in line


def test_the_summary_names_the_champion_and_says_why(summary, made):
    assert "wine-quality version 1 is champion: it is the first champion" in summary
    scores = made["held_out_metrics"]["all"]
    line = line_about(summary, "on the held-out wines")
    bounds = made["held_out_intervals"]["all"]
    for metric in ("rmse", "mae"):
        low, high = bounds[metric]["low"], bounds[metric]["high"]
        assert low < scores[metric] < high
        assert f"{metric.upper()} {scores[metric]:.3f} ({low:.3f} to {high:.3f})" in line


def test_the_summary_tells_what_was_tuned_and_how_long_everything_took(summary):
    assert line_about(summary, "decision tree classifier", "pruned)")
    start = summary.index("Seconds")
    told = {line.split("  ")[0] for line in summary[start + 2 : start + 7]}
    assert told == {"processing", "tuning", "training", "serving simulation", "monitoring"}


def test_the_model_card_travels_with_the_run_and_the_version(registry, whole_run, made):
    version = registry.get_model_version_by_alias("wine-quality", "champion")
    artifacts = {artifact.path for artifact in registry.list_artifacts(version.run_id)}
    assert {"model_card.md", "model_card.html", "figures"} <= artifacts
    figures = {artifact.path for artifact in registry.list_artifacts(version.run_id, "figures")}
    for name in ("comparison", "residuals", "quality_errors", "importance", "learning_curve"):
        assert f"figures/{name}.json" in figures
    assert "figures/training_figures.html" in figures
    scores = made["held_out_metrics"]["all"]
    assert f"| RMSE (points of quality) | {scores['rmse']:.3f} (" in made["model_card_md"]


def test_the_best_settings_are_used_by_the_candidate_that_was_tuned(made):
    best = made["decision_tree_classifier_best_settings"]
    used = made["decision_tree_classifier_scores"]
    assert best["finished"] == 2
    assert best["settings"].items() <= used["settings"]["settings"].items()
    # the configured settings are the first trial, and nothing was better
    assert used["tuned"] == "as configured (the best of 2 trials)"
    assert made["k_neighbors_regressor_best_settings"] == {}


def test_the_summary_counts_the_wines_sent(summary):
    assert any(line.split()[:4] == ["200", "200", "0", "0"] for line in summary)
    assert "200 labels handed in, 200 of them new" in summary


def test_the_summary_has_a_verdict_for_every_column_and_the_model(summary, made):
    verdicts = made["verdicts"]
    assert set(verdicts["column"]) == SUBJECTS
    start = summary.index("Monitoring")
    told = summary[start:]
    for row in verdicts.itertuples():
        words = re.escape(row.column.replace("_", " "))
        pattern = re.compile(rf"{words} +{row.verdict} +\S")
        assert sum(bool(pattern.match(line)) for line in told) == 1, row.column
    line = line_about(told, "model (all)")
    assert re.match(r"model \(all\) +ok +mean (absolute )?error [+-]?\d", line)


def test_the_summary_says_where_to_look_further(summary, whole_run):
    page = Path(line_about(summary, "monitoring page").split()[-1])
    assert page.is_file()
    assert page.is_relative_to(whole_run.root)
    workspace = Path(line_about(summary, "./just evidently").split()[-1])
    assert list(workspace.glob("*/snapshots/*.json"))
    assert re.search(r"^evidently workspace=", (PROJECT / "justfile").read_text(), re.M)
    for recipe in ("mlflow", "viz"):
        assert line_about(summary, f"./just {recipe} --env test")
        # the command takes the arguments that the summary names
        assert re.search(rf"^{recipe} \*arguments:$", (PROJECT / "justfile").read_text(), re.M)


def test_training_and_held_out_wines_are_the_accepted_ones_divided(made):
    training, held_out = made["training_wines"], made["held_out_wines"]
    key = ["source", "line"]
    both = pd.concat([training, held_out])
    assert not both.duplicated(key).any()
    pd.testing.assert_frame_equal(
        both.sort_values(key, ignore_index=True),
        made["accepted_wines"].sort_values(key, ignore_index=True),
    )
    assert len(held_out) / len(both) == pytest.approx(0.2, abs=0.01)
    common = training[list(INPUTS)].merge(held_out[list(INPUTS)], on=list(INPUTS))
    assert common.empty
    assert made["split_audit"]["held_out_rows_in_training"] == 0


@pytest.mark.parametrize("name", ["training_wines", "held_out_wines"])
def test_the_split_wines_have_the_columns_and_ranges_of_wines(made, name):
    wines = made[name]
    assert list(wines) == [*INPUTS, QUALITY, "source", "line"]
    assert set(wines[TYPE]) == {"red", "white"}
    for measurement in MEASUREMENTS:
        values = wines[measurement.name]
        assert values.dtype == float
        assert values.dropna().between(*measurement.possible).all()
        assert values.isna().mean() < 0.01
    assert pd.api.types.is_integer_dtype(wines[QUALITY])
    assert wines[QUALITY].between(*QUALITY_BOUNDS).all()


def test_nothing_is_rejected_and_the_audit_agrees(made):
    audit = made["wine_audit"]
    assert made["rejected_wines"].empty
    assert audit["read"] == audit["accepted"] == len(made["accepted_wines"])


def test_the_comparison_ranks_the_enabled_candidates(made):
    comparison = made["comparison"]
    assert set(comparison["candidate"]) == CANDIDATES
    assert comparison["rank"].tolist() == [1, 2, 3]
    assert comparison["rmse"].is_monotonic_increasing
    assert comparison["rmse"].between(0.4, 1.2).all()
    assert (comparison["mae"] < comparison["rmse"]).all()
    assert comparison["accuracy_within_0.5"].between(0.3, 0.9).all()


def test_the_held_out_metrics_beat_the_mean(made):
    metrics = made["held_out_metrics"]
    assert metrics["all"]["r2"] > 0.2
    assert set(metrics) == {"all", "red", "white"}


def test_the_registry_has_a_champion_with_signature_and_tags(registry, whole_run, made):
    version = registry.get_model_version_by_alias("wine-quality", "champion")
    assert str(version.version) == "1"
    assert version.tags["candidate"] == made["comparison"]["candidate"].iloc[0]
    assert float(version.tags["held_out_rmse"]) == pytest.approx(
        made["held_out_metrics"]["all"]["rmse"], abs=1e-4
    )
    # the tests that go on from a copy of this root store their models beside this one
    model_id = version.source.rpartition("/")[2]
    (description,) = whole_run.root.glob(f"mlartifacts/**/{model_id}/**/MLmodel")
    model = Model.load(description)
    assert model.signature.inputs.input_names() == list(INPUTS)
    assert model.signature.outputs is not None
    assert model.saved_input_example_info is not None
    assert list(description.parent.glob("*.skops")), "saved in a form that runs no code"
    assert not list(description.parent.glob("*.pkl"))


def test_the_champions_reference_is_in_the_registry(registry, whole_run, made):
    version = registry.get_model_version_by_alias("wine-quality", "champion")
    (path,) = whole_run.root.glob(f"mlartifacts/**/{version.run_id}/**/*.parquet")
    reference = pd.read_parquet(path)
    pd.testing.assert_frame_equal(reference, made["reference"])
    assert list(reference) == [*INPUTS, QUALITY, PREDICTION]
    again = made["champion"].model.predict(reference[list(INPUTS)])
    np.testing.assert_allclose(again, reference[PREDICTION])
    pd.testing.assert_frame_equal(
        reference[[*INPUTS, QUALITY]], made["held_out_wines"][[*INPUTS, QUALITY]]
    )


def test_the_tracking_run_has_a_nested_run_for_each_candidate(registry, made):
    (experiment,) = (e for e in registry.search_experiments() if e.name == "wine_quality")
    runs = registry.search_runs([experiment.experiment_id])
    nested = {run.info.run_name: run for run in runs if "mlflow.parentRunId" in run.data.tags}
    trials = {name for name, run in nested.items() if "trial" in run.data.tags}
    assert trials == {f"decision_tree_classifier trial {number}" for number in (0, 1)}
    assert set(nested) - trials == CANDIDATES
    scores = made["comparison"].set_index("candidate")["rmse"]
    for name in CANDIDATES:
        run = nested[name]
        assert run.data.metrics["cv_rmse"] == pytest.approx(scores[name])
        assert run.data.params["estimator"].startswith("sklearn.")
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert parent.data.tags["environment"] == "test"
    assert parent.data.tags["git_revision"]
    assert parent.data.tags["kedro_command"].startswith("kedro run")
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_the_tracking_run_says_what_it_came_to(registry):
    (experiment,) = (e for e in registry.search_experiments() if e.name == "wine_quality")
    runs = registry.search_runs([experiment.experiment_id])
    (run,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert run.info.run_name == "__default__, test: version 1 is champion"
    note = run.data.tags["mlflow.note.content"]
    for part in (
        "Wines\n",
        "Candidates\n",
        "version 1 is champion",
        "RMSE",
        "200 labels handed in",
    ):
        assert part in note
    # each value once, not each group as well
    groups = {name.rpartition(".")[0] for name in run.data.params}
    assert not groups & run.data.params.keys()
    assert run.data.params["monitoring.drift.sources_apart"] == "['simulation']"
    assert run.data.params["training.comparison.cross_validation.folds"].isdigit()
    version = registry.get_model_version_by_alias("wine-quality", "champion")
    assert version.description.startswith(version.tags["candidate"].replace("_", " "))
    assert f"RMSE {version.tags['held_out_rmse']}" in version.description
    assert "champion" in registry.get_registered_model("wine-quality").description


def test_every_prediction_and_label_is_in_the_inference_log(made):
    log = made["inference_log"].read()
    assert len(log) == made["traffic_summary"]["sent"] == 200
    assert set(log["model_version"]) == {"1"}
    assert log[QUALITY].notna().sum() == 200
    assert log[QUALITY].between(*QUALITY_BOUNDS).all()
    start = pd.Timestamp("2026-01-01", tz="UTC")
    assert log["event_time"].between(start, start + pd.Timedelta(days=1), inclusive="left").all()
    again = made["champion"].model.predict(log[list(INPUTS)])
    np.testing.assert_allclose(log[PREDICTION], again)
    known = log[[*INPUTS, QUALITY]].merge(
        made["held_out_wines"][[*INPUTS, QUALITY]].drop_duplicates(), how="inner"
    )
    assert len(known) == 200, "only wines that the model was not fitted on are sent"


def test_all_is_quiet_without_drift(made):
    verdicts, model = made["verdicts"], made["model_verdicts"]
    assert TRAFFIC in set(verdicts["column"])
    assert verdicts["verdict"].tolist() == ["ok"] * len(verdicts)
    assert model.loc[model["segment"] == "all", "verdict"].tolist() == ["ok"]
    assert not model["verdict"].eq("decayed").any()
    assert (verdicts.loc[verdicts["segment"] == "all", "n"] > 150).all()
    judged = verdicts[verdicts["column"] != TRAFFIC]
    assert (judged["value"] <= judged["threshold"]).all()
    assert made["alerts"] == []


def test_every_verdict_is_in_the_history(made):
    found = made["verdict_history"].history()
    assert len(found) == len(made["verdicts"]) + len(made["model_verdicts"])
    assert (found["revision"] == 1).all()


def report(made, kind):
    """The newest window's report: its page and its snapshot."""
    (found,) = (text for name, text in made["reports"].items() if kind in name.lower())
    return made["evidently_pages"][kind](), found


def test_the_newest_window_alone_is_reported_where_none_alarms(made):
    assert sorted(made["evidently_pages"]) == sorted(KINDS)


@pytest.mark.parametrize("kind", ["drift", "summary"])
def test_the_reports_cover_every_column(made, kind):
    page, snapshot = report(made, kind)
    assert page.lstrip().lower().startswith(("<html", "<!doctype html"))
    content = json.dumps(json.loads(snapshot))
    for column in (*INPUTS, PREDICTION):
        assert column in page
        assert column in content


def test_the_regression_report_is_about_errors(made):
    page, snapshot = report(made, "regression")
    for text in (page, json.dumps(json.loads(snapshot))):
        assert "MAE" in text
        assert QUALITY in text


def test_the_figures_show_what_was_judged(made):
    rows = {str(row) for row in made["drift_figure"].data[0].y}
    assert rows == {subject.replace("_", " ") for subject in SUBJECTS}
    (mae,) = made["error_figure"].data[0].y
    assert mae == pytest.approx(
        made["model_verdicts"].query("segment == 'all'")["mae"].item(), rel=1e-6
    )
