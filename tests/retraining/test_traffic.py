import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wine_quality.drift.log_reader import LABELLED_DTYPES
from wine_quality.pipelines.retraining.parameters import RetrainingParameters
from wine_quality.retraining.traffic import (
    RULE,
    RULES,
    TrafficSettings,
    audit_traffic,
    join_traffic,
    largest_share,
    sort_traffic,
)
from wine_quality.traffic.sender import SIMULATION
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import INPUTS, QUALITY

RAW = draw_wines(60, 1).assign(source="red.csv", line=range(60))
NO_WINDOWS = pd.DataFrame(columns=["window_start", "window_end", "model_version"])
DAY = pd.Timedelta("1D")
START = pd.Timestamp("2026-03-01", tz="UTC")
PLAIN = {
    "most_labels": 1000,
    "sources": None,
    "left_out": (),
    "most_apart": 2,
    "most_source_share": 1.0,
    "most_source_error": 1.5,
}


def traffic_of(wines, **columns):
    """One labelled prediction an hour."""
    rows = wines[[*INPUTS, QUALITY]].reset_index(drop=True)
    hours = START + pd.to_timedelta(np.arange(len(rows)), unit="h")
    plain = {
        "prediction_id": [f"id-{i}" for i in range(len(rows))],
        "event_time": hours,
        "model_version": "3",
        "source": "shop",
        "prediction": 5.5,
    }
    return rows.assign(**plain | columns)[list(LABELLED_DTYPES)].astype(LABELLED_DTYPES)


def rules(traffic, windows=NO_WINDOWS, known=RAW, **changes):
    found = sort_traffic(traffic, known, windows, TrafficSettings(**PLAIN | changes))
    assert found.drop(columns=RULE).equals(traffic)
    return found[RULE].tolist()


TEN = draw_wines(10, 2)


def test_sound_traffic_is_accepted():
    assert rules(traffic_of(TEN)) == [""] * 10


def test_simulated_wines_train_only_if_named():
    simulated = traffic_of(TEN, source=SIMULATION)
    assert rules(simulated) == ["simulated"] * 10
    assert rules(simulated, sources=("shop",)) == ["simulated"] * 10
    assert rules(simulated, sources=(SIMULATION,)) == [""] * 10


def test_sources_are_chosen_or_left_out():
    mixed = traffic_of(TEN, source=["shop", "lab"] * 5)
    assert rules(mixed, sources=("lab",)) == ["source", ""] * 5
    assert rules(mixed, left_out=("lab",)) == ["", "source"] * 5
    assert rules(mixed, sources=("lab",), left_out=("lab",)) == ["source"] * 10


@pytest.mark.parametrize(
    "changes", [{QUALITY: 11}, {QUALITY: 5.5}, {"pH": 15}, {"type": "rosé"}, {"alcohol": -1}]
)
def test_what_cannot_be_is_left_out(changes):
    wines = TEN.astype({QUALITY: float})
    for name, value in changes.items():
        wines.loc[3, name] = value
    assert rules(traffic_of(wines)) == [""] * 3 + ["impossible"] + [""] * 6


def test_windows_with_bad_data_are_left_out_of_their_version_alone():
    windows = pd.DataFrame(
        {
            "window_start": [START + 2 * DAY / 24],
            "window_end": [START + 4 * DAY / 24],
            "model_version": ["3"],
        }
    )
    # the windows beside it are left out as well: hours 0 to 5
    assert rules(traffic_of(TEN), windows) == ["data_quality"] * 6 + [""] * 4
    assert rules(traffic_of(TEN, model_version="4"), windows) == [""] * 10
    # what is judged apart spoils no other wines
    apart = windows.assign(model_version="3 (replay)")
    assert rules(traffic_of(TEN), apart) == [""] * 10
    assert rules(traffic_of(TEN, source="replay"), apart) == ["data_quality"] * 6 + [""] * 4


def two_sources(error, share=0.5):
    """Four weeks of two sources; the predictions are right but for noise, and one source's labels
    from the third week on."""
    wines, rng = draw_wines(800, 3), np.random.default_rng(3)
    theirs = rng.random(800) < share
    prediction = wines[QUALITY] + rng.normal(0, 0.5, 800)
    # weeks begin on Thursdays
    first = START + 4 * DAY
    moments = first + pd.to_timedelta(np.arange(800) * 28 * 24 / 800, unit="h")
    rows = traffic_of(wines, event_time=moments, prediction=prediction)
    rows = rows.assign(source=np.where(theirs, "partner", "shop"))
    wrong = rows[QUALITY].mask(theirs & (moments >= first + 14 * DAY), error(rows[QUALITY], rng))
    return rows.assign(**{QUALITY: wrong.clip(1, 10)}), theirs & (moments >= first + 7 * DAY)


def test_a_source_that_mixes_up_its_labels_is_left_out_for_these_weeks_and_the_one_before():
    traffic, wrong = two_sources(lambda quality, rng: rng.permutation(quality))
    found = np.array(rules(traffic, most_apart=10))
    assert (found[wrong] == "source_error").all()
    assert (found[~wrong] == "").all()
    assert set(rules(traffic, most_apart=10, most_source_error=None)) == {""}
    # of the last week there are too few labels yet
    first = traffic.iloc[:620]
    assert np.array_equal(np.array(rules(first, most_apart=10)) != "", wrong[:620])


def test_tasters_who_change_for_all_sources_are_no_error_of_one():
    traffic, _ = two_sources(lambda quality, rng: quality)
    stricter = traffic.assign(**{QUALITY: traffic[QUALITY] - 1})
    assert set(rules(stricter, most_apart=10)) == {""}
    # nor is one source alone: there is nobody to compare it with
    alone, _ = two_sources(lambda quality, rng: rng.permutation(quality), share=1.0)
    assert set(rules(alone, most_apart=10)) == {""}


def test_contradictory_labels_of_one_wine_are_left_out_all_of_them():
    wines = TEN.iloc[[0, 1, 0, 1, 0]]
    labelled = traffic_of(wines.assign(**{QUALITY: [4, 5, 7, 7, 6]}))
    # 4 and 7 lie three apart; 5 and 7 do not, and the newer one counts
    contradictory, older = "contradictory", "repeated"
    assert rules(labelled) == [contradictory, older, contradictory, "", contradictory]


def test_wines_of_the_raw_files_are_known():
    wines = pd.concat([RAW.iloc[:2], TEN.iloc[:1]])
    assert rules(traffic_of(wines)) == ["known", "known", ""]


def test_a_label_that_is_left_out_contradicts_nobody():
    wines = TEN.iloc[[0, 0]].assign(**{QUALITY: [4, 9]})
    assert rules(traffic_of(wines, source=["shop", SIMULATION])) == ["", "simulated"]


def test_no_source_has_more_than_its_share():
    wines = draw_wines(100, 5)
    flood = traffic_of(wines, source=["flood"] * 90 + ["shop"] * 10)
    found = rules(flood, most_source_share=0.25)
    # 60 raw ones, 10 of the shop and 23 of the flood: 23 is a quarter of 93
    assert found == ["source_share"] * 67 + [""] * 33


@given(
    rows=st.lists(st.integers(0, 50), max_size=5),
    others=st.integers(0, 100),
    share=st.floats(0.01, 1),
)
def test_the_share_is_as_large_as_it_may_be(rows, others, share):
    def fits(most):
        return most <= share * (others + np.minimum(rows, most).sum())

    most = largest_share(np.array(rows, dtype="int64"), others, share)
    assert fits(most)
    assert most == max(rows, default=0) or not fits(most + 1)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_the_audit_counts_every_row_once(seed):
    rng = np.random.default_rng(seed)
    wines = pd.concat([TEN, RAW.iloc[:5], TEN.iloc[:5]])[[*INPUTS, QUALITY]]
    wines[QUALITY] = rng.integers(3, 9, len(wines))
    traffic = traffic_of(wines, source=rng.choice(["a", "b", SIMULATION], len(wines)))
    found = sort_traffic(traffic, RAW, NO_WINDOWS, TrafficSettings(**PLAIN | {"left_out": ("b",)}))
    audit = audit_traffic(found, is_used=True)
    assert audit["labelled"] == len(wines) == audit["accepted"] + sum(audit["left_out"].values())
    assert audit["left_out"].keys() == RULES.keys()
    assert sum(audit["by_source"].values()) == audit["accepted"]
    assert audit["by_source"].keys() <= {"a"}


def test_accepted_traffic_comes_under_the_raw_wines_with_its_provenance():
    traffic = traffic_of(TEN, source=["shop"] * 9 + [SIMULATION])
    settings = TrafficSettings(**PLAIN)
    joined = join_traffic(RAW, sort_traffic(traffic, RAW, NO_WINDOWS, settings))
    assert len(joined) == 69
    assert joined.iloc[:60][list(RAW)].equals(RAW)
    added = joined.iloc[60:]
    assert added["prediction_id"].tolist() == [f"id-{i}" for i in range(9)]
    assert set(added["source"]) == {"shop"}
    assert added[QUALITY].tolist() == TEN[QUALITY].tolist()[:9]
    assert joined[QUALITY].dtype == RAW[QUALITY].dtype


def test_without_traffic_the_wines_are_as_they_were():
    nothing = sort_traffic(traffic_of(TEN.iloc[:0]), RAW, NO_WINDOWS, TrafficSettings(**PLAIN))
    assert join_traffic(RAW, nothing) is RAW
    assert audit_traffic(nothing, is_used=False)["labelled"] == 0


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="most_source_share"):
        RetrainingParameters(use_traffic=True, traffic=PLAIN | {"most_source_share": 0})
