import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from wine_quality.drift.verdict_store import HISTORY_DTYPES, VerdictStore, subject_verdicts
from wine_quality.errors import WineQualityError

START = pd.Timestamp("2026-01-01", tz="UTC")
NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)


def judged(window="1D", **changes):
    """Two windows: alcohol and the model of each."""
    days = [START, START + pd.Timedelta("1D")]
    columns = pd.DataFrame(
        {
            "window_start": days,
            "window_end": [day + pd.Timedelta("1D") for day in days],
            "model_version": "1",
            "column": "alcohol",
            "verdict": ["ok", "drift"],
            "value": [0.5, 9.25],
            "threshold": [4.5, np.inf],
            "n": [100, 120],
            "psi": 0.1,
            "reason": ["alcohol: score 0.5", "alcohol: score 9.2"],
        }
    )
    model = columns.drop(columns=["column", "psi"]).assign(
        segment="all", verdict="no_labels", value=np.nan, threshold=np.nan, n=0, reason="all: none"
    )
    return subject_verdicts(columns, model.assign(**changes), window)


def test_what_was_recorded_is_read_back(url):
    with VerdictStore(url) as store:
        assert store.history().empty
        assert store.record(judged(), NOON) == 4
        found = store.history()
    assert found.dtypes.astype(str).to_dict() == HISTORY_DTYPES
    assert (found["revision"] == 1).all()
    assert (found["decided_at"] == pd.Timestamp(NOON)).all()
    assert (found["window_seconds"] == 86400).all()
    by = ["window_start", "subject"]
    names = [name for name in HISTORY_DTYPES if name not in ("revision", "decided_at")]
    # a database has no infinity
    expected = judged().replace(np.inf, np.nan).sort_values(by, ignore_index=True)
    assert_frame_equal(found[names], expected[names], check_dtype=False)


def test_the_same_verdicts_are_recorded_once(url):
    with VerdictStore(url) as store:
        store.record(judged(), NOON)
    with VerdictStore(url) as store:
        assert store.record(judged(), NOON + timedelta(days=1)) == 0
        assert len(store.history()) == 4


def test_a_changed_verdict_is_appended_and_the_old_one_stays(url):
    decayed = {"verdict": ["ok", "decayed"], "n": [0, 60], "reason": ["all: none", "all: worse"]}
    with VerdictStore(url) as store:
        store.record(judged(), NOON)
        # the first window's other word alone is a change, too
        assert store.record(judged(**decayed), NOON + timedelta(days=1)) == 2
        of_model = store.history().query("subject == 'model (all)' and n == 60 or revision == 1")
        newest = of_model[of_model["subject"] == "model (all)"].iloc[-2:]
    assert newest["verdict"].tolist() == ["no_labels", "decayed"]
    assert newest["revision"].tolist() == [1, 2]
    assert newest["decided_at"].is_monotonic_increasing


def test_changes_are_what_the_history_says_the_newest_first(url):
    """Four subjects over a year of weeks, each week with other words; some verdicts change."""
    rng = np.random.default_rng(5)
    with VerdictStore(url) as store:
        assert store.changes(5).in_all == 0
        for week in range(6):
            words = rng.choice(["ok", "decayed"], 2).tolist()
            store.record(judged(verdict=words, n=[week, week]), NOON + timedelta(weeks=int(week)))
        history = store.history()
        every, two = store.changes(100), store.changes(2)
    by = ["window_start", "subject"]
    history["before"] = history.groupby(by)["verdict"].shift()
    expected = history[history["before"].notna() & (history["before"] != history["verdict"])]
    assert 2 < len(expected) < len(history) - 4
    expected = expected.sort_values(["decided_at", *by], ascending=False, ignore_index=True)
    assert_frame_equal(every.newest, expected.astype(every.newest.dtypes))
    assert_frame_equal(two.newest, every.newest.head(2))
    assert two.in_all == every.in_all == len(expected)


def test_windows_of_another_length_are_others(url):
    with VerdictStore(url) as store:
        store.record(judged(), NOON)
        assert store.record(judged("6h"), NOON) == 4
        assert store.history()["window_seconds"].value_counts().to_dict() == {86400: 4, 21600: 4}


def test_two_runs_at_once_record_each_verdict_once(url):
    with VerdictStore(url) as store:
        store.history()
    begin, recorded = threading.Barrier(4), []

    def run():
        with VerdictStore(url) as store:
            begin.wait()
            recorded.append(store.record(judged(), NOON))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(recorded) == [0, 0, 0, 4]
    with VerdictStore(url) as store:
        assert len(store.history()) == 4


def test_a_database_that_cannot_be_used_is_named_without_its_password(tmp_path):
    with pytest.raises(WineQualityError, match="cannot be kept in mysql"):
        VerdictStore("mysql://someone@host/wines")
    file = tmp_path / "verdicts.db"
    file.write_text("no database at all, but long enough to be taken for one" * 40)
    with VerdictStore(f"sqlite:///{file}") as store, pytest.raises(WineQualityError) as caught:
        store.history()
    assert str(file) in str(caught.value)
    nowhere = VerdictStore("postgresql://wine:s3cret@127.0.0.1:1/wines")
    assert "s3cret" not in repr(nowhere)
    with nowhere, pytest.raises(WineQualityError, match=r"127\.0\.0\.1:1/wines") as caught:
        nowhere.history()
    assert "s3cret" not in str(caught.value)


def test_windows_and_what_holds_of_them(url):
    with VerdictStore(url) as store:
        assert store.windows().empty
        assert store.windows_judged("drift").empty
        store.record(judged(verdict=["decayed", "ok"], n=[60, 60]), NOON)
        # late labels take the decay back
        store.record(judged(verdict=["ok", "ok"], n=[90, 60]), NOON + timedelta(days=1))
        windows = store.windows().sort_values("window_start", ignore_index=True)
        assert windows["window_start"].tolist() == [START, START + pd.Timedelta("1D")]
        assert (windows["window_end"] - windows["window_start"] == pd.Timedelta("1D")).all()
        assert windows["alarming"].tolist() == [True, True]
        assert store.windows_judged("decayed").empty
        drift = store.windows_judged("drift")
        assert drift["subject"].tolist() == ["alcohol"]
        history = store.history()
        newest = history.drop_duplicates(["window_start", "subject"], keep="last")
        for verdict in ("ok", "drift"):
            expected = newest[newest["verdict"] == verdict].reset_index(drop=True)
            assert_frame_equal(store.windows_judged(verdict), expected)
