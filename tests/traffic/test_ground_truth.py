"""Ground truth: every label at most as often as asked for, the right one unless asked otherwise."""

import itertools
import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from pydantic import ValidationError

from wine_quality.database.errors import DatabaseError
from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import LogCounts
from wine_quality.serving.labels import UnknownPredictionsError
from wine_quality.traffic import sender
from wine_quality.traffic.backends import BackendUnavailableError, InProcessBackend
from wine_quality.traffic.ground_truth import (
    GroundTruthParameters,
    judge_wines,
    left_over,
    submit_labels,
)
from wine_quality.traffic.planning import plan_traffic
from wine_quality.traffic.sender import queue_traffic, send

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)
EXACT = {"share": 1.0, "delay_hours": 0.0}
shares = st.sampled_from([0.0, 0.3, 1.0])
any_parameters = st.builds(
    GroundTruthParameters,
    share=shares,
    delay_hours=st.floats(0, 100),
    delay_spread_hours=st.floats(0, 100),
    error_share=shares,
    repeated_share=shares,
    shuffled=st.booleans(),
)


def receipts_of(n, quality=None, acknowledged=True):
    return pd.DataFrame(
        {
            "prediction_id": pd.Series([f"id{i:05d}" for i in range(n)], dtype="str"),
            "event_time": pd.date_range(NOON, periods=n, freq="min", unit="us"),
            "acknowledged": acknowledged,
            "quality": np.arange(n) % 11 if quality is None else quality,
        }
    )


def judged(frame, seed=1, **changes):
    return pd.concat(judge_wines([frame], GroundTruthParameters(**EXACT | changes), seed))


# Judging


@settings(max_examples=150)
@given(parameters=any_parameters, sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_every_wine_is_labelled_at_most_as_asked(parameters, sizes):
    whole = receipts_of(sum(sizes))
    whole.loc[::7, "acknowledged"] = False
    whole = whole.astype({"quality": "float64"})
    whole.loc[::5, "quality"] = math.nan
    edges = np.cumsum([0, *sizes]).tolist()
    parts = [whole.iloc[a:b] for a, b in itertools.pairwise(edges)]

    labels = pd.concat(judge_wines(parts, parameters, 5), ignore_index=True)

    times = Counter(labels["prediction_id"])
    most = 2 if parameters.repeated_share else 1
    assert all(1 <= n <= most for n in times.values())
    if parameters.repeated_share == 1:
        assert set(times.values()) <= {2}
    eligible = whole[whole["acknowledged"] & whole["quality"].notna()].set_index("prediction_id")
    assert set(times) <= set(eligible.index)
    if parameters.share in (0, 1):
        assert len(times) == parameters.share * len(eligible)
    assert labels.drop_duplicates()["prediction_id"].is_unique
    sent = eligible.loc[labels["prediction_id"]]
    off = np.abs(labels["quality"].to_numpy() - sent["quality"].to_numpy())
    assert set(off) <= ({0} if parameters.error_share == 0 else {0, 1})
    if parameters.error_share == 1:
        assert set(off) <= {1}
    assert labels["quality"].between(0, 10).all()
    hours = (labels["labelled_at"].to_numpy() - sent["event_time"].to_numpy()) / np.timedelta64(
        1, "h"
    )
    spread = parameters.delay_spread_hours
    assert (hours >= max(0.0, parameters.delay_hours - spread) - 1e-6).all()
    assert (hours <= parameters.delay_hours + spread + 1e-6).all()
    # which wines, what and when does not depend on the frames
    at_once = pd.concat(judge_wines([whole], parameters, 5), ignore_index=True)
    keys = ["prediction_id", "labelled_at"]
    assert_frame_equal(
        labels.sort_values(keys, ignore_index=True), at_once.sort_values(keys, ignore_index=True)
    )


def test_shares_are_met_on_average():
    labels = judged(receipts_of(8_000), share=0.4, error_share=0.25, repeated_share=0.1)
    once = labels.drop_duplicates()
    assert len(once) == pytest.approx(0.4 * 8_000, abs=150)
    assert len(labels) - len(once) == pytest.approx(0.1 * len(once), abs=60)
    truth = receipts_of(8_000).set_index("prediction_id")["quality"]
    wrong = once["quality"].to_numpy() != truth[once["prediction_id"]].to_numpy()
    assert wrong.mean() == pytest.approx(0.25, abs=0.03)


def test_labels_come_in_order_unless_shuffled():
    in_order = judged(receipts_of(300), repeated_share=0.5)
    assert in_order["prediction_id"].is_monotonic_increasing
    shuffled = judged(receipts_of(300), repeated_share=0.5, shuffled=True)
    assert not shuffled["prediction_id"].is_monotonic_increasing
    assert Counter(shuffled["prediction_id"]) == Counter(in_order["prediction_id"])
    ids = shuffled["prediction_id"].tolist()
    twice = sum(a == b for a, b in itertools.pairwise(ids))
    assert twice < 10


def test_the_seed_says_who_is_judged():
    one, other = (judged(receipts_of(100), seed=seed, share=0.5) for seed in (1, 2))
    assert_frame_equal(one, judged(receipts_of(100), seed=1, share=0.5))
    assert set(one["prediction_id"]) != set(other["prediction_id"])


def test_ground_truth_needs_a_quality():
    with pytest.raises(WineQualityError, match="no quality, so there is no ground truth"):
        judged(receipts_of(3).drop(columns="quality"))


@pytest.mark.parametrize(
    "wrong", [{"share": 1.1}, {"share": math.nan}, {"error_share": -0.1}, {"delay_hours": -1}]
)
def test_impossible_ground_truth_is_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        GroundTruthParameters(**wrong)


# Handing in


@pytest.fixture
def sent(backend, make_wines):
    """Receipts of 95 wines."""
    asked = {"samples": 95, "start": NOON, "duration": DAY, "seed": 1}
    traffic = plan_traffic(make_wines(200), **asked)
    queued = queue_traffic([], traffic, batch_size=20, request_prefix="run")
    return pd.concat(send(backend, queued))


def submit(backend, labels, **changes):
    asked = {"until": None, "batch_size": 30, "patience_seconds": 0.0, **changes}
    return submit_labels(backend, [labels], **asked)


def test_labels_reach_the_log(backend, log, sent):
    labels = judged(sent, delay_hours=48, repeated_share=0.2, shuffled=True)
    delivered = submit(backend, labels)
    assert delivered.due == delivered.submitted == len(labels) > 95
    assert delivered.new == 95
    logged = log.read().dropna(subset="quality").set_index("prediction_id")
    expected = sent.set_index("prediction_id").loc[logged.index]
    assert (logged["quality"] == expected["quality"]).all()
    assert (logged["labelled_at"] - logged["event_time"] == 2 * DAY).all()
    assert submit(backend, labels).new == 0
    assert log.counts() == LogCounts(predictions=95, labels=95, labelled=95)


def test_labels_that_are_not_due_wait(backend, log, sent):
    labels = judged(sent, delay_hours=12)
    present = NOON + DAY
    first = submit(backend, labels, until=present)
    due = int((sent["event_time"] <= NOON + DAY / 2).sum())
    assert 0 < due < 95
    assert (first.due, first.submitted, first.new) == (due, due, due)
    assert first.held_back == 95 - due
    waiting = pd.concat(left_over([labels], present, first.submitted))
    assert (waiting["labelled_at"] > present).all()
    assert len(waiting) == 95 - due

    later = submit(backend, waiting, until=present + DAY)
    assert later.new == 95 - due
    assert pd.concat(left_over([waiting], present + DAY, later.submitted)).empty
    assert log.counts().labels == 95


class Away(InProcessBackend):
    """Is away from the n-th call on, for some calls."""

    def __init__(self, backend, first, calls=10**9):
        super().__init__(backend._predictor, backend._log)
        self.away = range(first, first + calls)
        self.calls = 0

    def submit_ground_truth(self, labels):
        self.calls += 1
        if self.calls in self.away:
            raise BackendUnavailableError("The service is not there: start it.")
        return super().submit_ground_truth(labels)


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5),
    until=st.integers(-10, 70),
    submitted=st.integers(0, 60),
)
def test_what_is_left_over_is_what_was_not_handed_in(sizes, until, submitted):
    whole = judged(receipts_of(sum(sizes))).reset_index(drop=True)
    whole = whole.sample(frac=1, random_state=1)
    edges = np.cumsum([0, *sizes]).tolist()
    parts = [whole.iloc[a:b] for a, b in itertools.pairwise(edges)]
    present = NOON + timedelta(minutes=until)
    handed_in = whole[whole["labelled_at"] <= present].head(submitted)
    left = pd.concat(left_over(parts, present, submitted))
    assert Counter(left["prediction_id"]) + Counter(handed_in["prediction_id"]) == Counter(
        whole["prediction_id"]
    )


def test_what_a_backend_that_is_away_did_not_take_is_left_over(backend, log, sent, caplog):
    labels = judged(sent)
    away = Away(backend, first=3)
    delivered = submit(away, labels)
    assert (delivered.due, delivered.submitted, delivered.new) == (95, 60, 60)
    assert away.calls == 3
    assert "35 of 95 labels are kept for a later run: The service is not there" in caplog.text
    waiting = pd.concat(left_over([labels], None, delivered.submitted))
    assert submit(backend, waiting).new == 35
    assert log.counts().labelled == 95


def test_a_backend_that_comes_back_gets_all(backend, log, sent, monkeypatch):
    monkeypatch.setattr(sender, "_FIRST_PAUSE", 1e-4)
    delivered = submit(Away(backend, first=2, calls=3), judged(sent), patience_seconds=60)
    assert (delivered.submitted, delivered.new) == (95, 95)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (DatabaseError("The log is damaged."), "The log is damaged."),
        (WineQualityError("The service does not know the API key."), "the API key"),
        (ConnectionResetError("reset by peer"), r"ConnectionResetError\('reset by peer'\)"),
        (UnknownPredictionsError("Others are unknown.", ["of-nobody"]), "Others are unknown"),
    ],
)
def test_whatever_a_backend_fails_by_no_label_is_lost(backend, log, sent, caplog, failure, told):
    class Failing(Away):
        def submit_ground_truth(self, labels):
            try:
                return super().submit_ground_truth(labels)
            except BackendUnavailableError:
                raise failure from None

    labels = judged(sent)
    failing = Failing(backend, first=2)
    delivered = submit(failing, labels, patience_seconds=60)
    assert failing.calls == 2
    assert (delivered.submitted, delivered.unknown) == (30, 0)
    assert re.search(f"65 of 95 labels are kept for a later run: .*{told}", caplog.text)
    waiting = pd.concat(left_over([labels], None, delivered.submitted))
    assert submit(backend, waiting).new == 65
    assert log.counts().labelled == 95


def test_labels_of_unknown_predictions_are_set_aside(backend, log, sent, caplog):
    labels = judged(sent)
    labels.iloc[[3, 40, 41], 0] = ["00000000-0000-7000-8000-000000000000", "no-id", "no-id"]
    delivered = submit(backend, labels)
    assert (delivered.due, delivered.submitted, delivered.new) == (95, 92, 92)
    assert delivered.unknown == 3
    assert "3 of 95 labels are set aside" in caplog.text
    assert log.counts().labelled == 92
    # they do not wait for ever
    done = delivered.submitted + delivered.unknown
    assert pd.concat(left_over([labels], None, done)).empty


def test_unknown_predictions_may_be_named_a_part_at_a_time(backend, log, sent):
    class InParts(InProcessBackend):
        def submit_ground_truth(self, labels):
            return sum(super(InParts, self).submit_ground_truth(labels[i::2]) for i in range(2))

    labels = judged(sent)
    labels.iloc[[3, 10], 0] = ["no-id", "nor-this"]
    delivered = submit(InParts(backend._predictor, backend._log), labels)
    assert (delivered.submitted, delivered.unknown) == (93, 2)
    assert log.counts().labelled == 93


def test_a_batch_has_labels(backend, sent):
    with pytest.raises(WineQualityError, match="batch_size must be 1 or more"):
        submit(backend, judged(sent), batch_size=0)
