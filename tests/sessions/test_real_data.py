"""The environments of the real files, and what the audit finds in them."""

import json

import pandas as pd
import pytest

PROCESSING = ("--pipeline", "processing")

pytestmark = pytest.mark.slow


@pytest.fixture
def real(real_data, project_environment, fresh_root):
    """Gives the arguments of an environment of real files that writes to a temporary root."""

    def environment(name, **changes):
        return project_environment(name=name, like=name, root=str(fresh_root), **changes)

    return environment


@pytest.fixture
def audits(fresh_root):
    return lambda name: json.loads(next(fresh_root.rglob(f"{name}.json")).read_text())


def test_the_uci_files_hold_1177_duplicates_and_split_without_leakage(
    kedro_here, real, fresh_root, audits
):
    outcome = kedro_here(*real("uci"), *PROCESSING, root=fresh_root)
    assert outcome.status == 0, outcome.errors
    assert "6,497 read, 6,497 accepted (1,599 red and 4,898 white), 0 rejected" in outcome.output
    audit = audits("wine_audit")
    assert audit["exact_duplicates"] == 1177
    assert audit["missing"] == {}
    split = audits("split_audit")
    assert split["held_out_rows_in_training"] == 0
    assert split["training_rows"] + split["held_out_rows"] == 6497
    assert "LEAKAGE" not in outcome.output


def test_the_kaggle_files_leak_which_the_environment_allows_and_tells(
    kedro_here, real, fresh_root, audits
):
    outcome = kedro_here(*real("kaggle"), *PROCESSING, root=fresh_root)
    assert outcome.status == 0, outcome.errors
    audit, split = audits("wine_audit"), audits("split_audit")
    assert audit["by_file"] == {"test_wine_data.csv": 6497, "train_wine_data.csv": 32485}
    assert split["distinct_complete_rows"] == 5295
    assert split["distinct_complete_rows_in_training"] == 5263
    assert (
        "LEAKAGE: 5,263 of 5,295 distinct complete held-out wines stand in the training wines"
        in outcome.output
    )


def test_the_tutorials_table_comes_out_as_it_was_printed(kedro_here, real, fresh_root):
    # the fewest folds and the table alone: the rest of training has tests of its own
    outcome = kedro_here(
        *real("kaggle"),
        *("--pipelines", "processing,training", "--to-outputs", "published_comparison"),
        *("--params", "training.comparison.cross_validation.folds=2"),
        root=fresh_root,
    )
    assert outcome.status == 0, outcome.errors
    table = pd.read_csv(next(fresh_root.rglob("published_comparison.csv")))
    assert set(table["candidate"]) == {
        *("random_forest_regressor", "random_forest_classifier"),
        *("extra_trees_classifier", "k_neighbors_regressor"),
    }
    # what another seed changes (docs/benchmarks/models.md)
    assert ((table["rmse_held_out"] - table["rmse_published"]).abs() < 0.015).all()
    assert ((table["r2_held_out"] - table["r2_published"]).abs() < 0.004).all()
    assert (table["r2_folds"] < 0.45).all()
    assert "6,431 of 6,497 of which were trained on" in outcome.output


def test_the_kaggle_files_stop_the_run_where_leakage_is_not_allowed(
    kedro_here, real, fresh_root, audits
):
    error = kedro_here(
        *real("kaggle"), *PROCESSING, "--params", "processing.allow=[]", root=fresh_root
    ).error
    leaked = audits("split_audit")["held_out_rows_in_training"]
    assert error == (
        f"{leaked:,} of 6,497 held-out wines also stand among the training wines, so scores on "
        "them would mean nothing. Split with processing.split.method=hash, or allow it: "
        "--params processing.allow=[leakage]"
    )
    for name in ("training_wines", "held_out_wines"):
        assert not list(fresh_root.rglob(f"{name}.*"))
