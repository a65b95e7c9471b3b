"""Labels that are a selection: the error on them is no verdict on the model, and no evidence."""

import numpy as np
import pandas as pd
import pytest

from wine_quality.drift.accepted import make_reference
from wine_quality.drift.judging import judge_hours
from wine_quality.drift.profile_store import ProfileStore
from wine_quality.drift.profiles import HOUR_S, Profile, count, window_profile
from wine_quality.drift.reference import SEGMENTS
from wine_quality.drift.selection import find_selection, selected_hours
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.vocabulary import SELECTED_LABELS
from wine_quality.drift.watching import MODEL, find_changes
from wine_quality.wines import PREDICTION, QUALITY, TYPE, WINE_TYPES

SETTINGS = DriftSettings(resamples=1000, seed=2009)
START = pd.Timestamp("2026-03-01", tz="UTC")
DAYS, PER_DAY = 6, 480


@pytest.fixture(scope="module")
def wines(draw_wines):
    drawn = draw_wines(DAYS * PER_DAY, 31)
    hour = np.arange(len(drawn)) // (PER_DAY // 24)
    return drawn.assign(event_time=START + pd.to_timedelta(hour, unit="h"))


def by_lot(wines, share=0.2, seed=5):
    return np.random.default_rng(seed).random(len(wines)) < share


def extremes(wines):
    return (wines[QUALITY] <= 4) | (wines[QUALITY] >= 8)


def labelled(wines, which):
    return wines.assign(quality=wines[QUALITY].where(which))


def windows(wines, reference):
    hours = count(wines, reference)
    return hours.regroup(hours.starts // 86_400 * 86_400)


def test_labelled_wines_are_counted_by_type_and_prediction(wines, reference):
    chosen = labelled(wines, by_lot(wines))
    profile = window_profile(chosen, reference)
    layout = reference.sums_layout
    counted = profile.sums[0][layout.by_prediction].reshape(-1, layout.predictions)
    known = chosen[chosen[QUALITY].notna()]
    edges = np.array(reference.bins(PREDICTION).edges)
    for kind, row in zip(WINE_TYPES, counted, strict=False):
        own = known.loc[known[TYPE] == kind, PREDICTION]
        expected = np.bincount(np.searchsorted(edges, own), minlength=layout.predictions)
        assert row.tolist() == expected.tolist()
    assert counted.sum() == len(known)


def test_the_score_is_that_of_sampling_without_replacement(wines, reference):
    """By the definition: the sum over the labelled, its mean and variance over all subsets."""
    day = wines.head(PER_DAY)
    which = by_lot(day, seed=8)
    selection = find_selection(windows(labelled(day, which), reference), reference, SETTINGS)
    bins = np.searchsorted(np.array(reference.bins(PREDICTION).edges), day[PREDICTION])
    usual = np.bincount(bins_of_reference(reference), minlength=bins.max() + 1) + 0.5
    share = usual / usual.sum()
    rank = np.cumsum(share) - share / 2
    value = rank[bins]
    n = which.sum()
    mean, variance = value.mean(), value.var(ddof=1)
    z = (value[which].sum() - n * mean) / np.sqrt(n * (1 - n / len(day)) * variance)
    assert selection.score[0, 0, 0] == pytest.approx(z, rel=1e-6)
    difference = (value[which].mean() - mean) / value.std()
    assert selection.difference[0, 0, 0] == pytest.approx(difference, rel=1e-6)


def bins_of_reference(reference):
    counts = reference.by_segment.sum(axis=0)[reference.cells[PREDICTION]][6:]
    return np.repeat(np.arange(len(counts)), counts)


def test_labels_by_lot_are_no_selection(draw_wines, reference):
    found = []
    for seed in range(20):
        quiet = draw_wines(20 * 300, 100 + seed)
        hour = np.arange(len(quiet)) // 300 * 24
        log = quiet.assign(event_time=START + pd.to_timedelta(hour, unit="h"))
        chosen = windows(labelled(log, by_lot(log, seed=seed)), reference)
        found.append(find_selection(chosen, reference, SETTINGS).is_selected)
    # 400 windows of three segments; nominal 0.1 % of windows
    assert np.concatenate(found).any(axis=1).mean() <= 0.01


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all_are_no_selection(wines, reference, share):
    chosen = windows(labelled(wines, by_lot(wines, share)), reference)
    selection = find_selection(chosen, reference, SETTINGS)
    assert not selection.is_selected.any()
    assert not selection.score.any()


def test_extremes_are_said_and_not_judged(wines, reference):
    hours = count(labelled(wines, extremes(wines)), reference)
    _, model = judge_hours(hours, reference, "3", SETTINGS)
    whole = model[model["segment"] == "all"]
    enough = whole["n"] >= SETTINGS.min_rows
    assert enough.any()
    assert set(whole.loc[enough, "verdict"]) == {SELECTED_LABELS}
    assert "decayed" not in set(model["verdict"])
    assert (
        whole.loc[enough, "reason"]
        .str.match(
            r"the labels are a selection: the predictions of the \d+ wines that have one are more "
            r"extreme than those of all \(score [\d.]+ exceeds [\d.]+\), so the error says nothing"
        )
        .all()
    )
    # the error stays visible
    assert whole["mae"].notna().all()


def test_without_the_comparison_extremes_look_like_decay(wines, reference):
    hours = count(labelled(wines, extremes(wines)), reference)
    unknown = earlier(hours, reference)
    _, model = judge_hours(unknown, reference, "3", SETTINGS)
    assert "decayed" in set(model["verdict"])
    assert MODEL in {f.subject for f in find_changes({"3": unknown}, {"3": reference}, 1.0)}


def earlier(hours, reference):
    """As an earlier edition counted them."""
    sums = hours.sums.copy()
    sums[:, reference.sums_layout.by_prediction] = np.nan
    return Profile(hours.starts, hours.counts, sums, hours.lows, hours.highs)


def test_selected_labels_are_no_evidence_and_the_others_are(wines, reference):
    late = wines["event_time"] >= START + pd.Timedelta(days=3)
    # extremes alone for three days; then a fifth by lot, of wines that are judged half a point less
    which = extremes(wines).where(~late, by_lot(wines))
    log = labelled(wines.assign(quality=wines[QUALITY] - 0.5 * late), which)
    hours = count(log, reference)
    selected = selected_hours(hours, reference, SETTINGS)
    assert selected.shape == (len(hours), len(SEGMENTS))
    assert selected[: 3 * 24, 0].all()
    assert not selected[3 * 24 :, 0].any()
    found = [
        finding
        for finding in find_changes({"3": hours}, {"3": reference}, 1.0, (), {}, {"3": selected})
        if finding.subject == MODEL
    ]
    begin = int(START.timestamp())
    (decay,) = found
    assert decay.since >= begin + 3 * 86_400 - 6 * HOUR_S
    assert decay.found <= begin + 6 * 86_400


def test_a_small_selection_shows_in_several_windows_together(draw_wines, reference):
    """Labels prefer high predictions a little: one day of 30 labels cannot tell."""
    log = draw_wines(14 * 300, 51)
    hour = np.arange(len(log)) // 300 * 24
    log = log.assign(event_time=START + pd.to_timedelta(hour, unit="h"))
    high = log[PREDICTION] > log[PREDICTION].median()
    chosen = np.random.default_rng(3).random(len(log)) < np.where(high, 0.15, 0.05)
    profile = windows(labelled(log, chosen), reference)
    alone = [
        find_selection(profile.rows(k, k + 1), reference, SETTINGS).is_selected[0, 0]
        for k in range(14)
    ]
    together = find_selection(profile, reference, SETTINGS).is_selected[:, 0]
    assert together.sum() > sum(alone)
    assert together[-1]


def test_selected_labels_are_no_reference_of_the_error(draw_wines, reference):
    wines = draw_wines(3000, 61)
    chosen = labelled(wines, extremes(wines))
    assert chosen[QUALITY].notna().sum() > 200
    made, count_of_labels = make_reference(window_profile(chosen, reference), reference, SETTINGS)
    assert count_of_labels == 0
    layout = reference.sums_layout
    assert made.sums[layout.errors] == reference.sums[layout.errors]


def test_counts_of_an_earlier_edition_open_and_are_judged_as_before(
    url, wines, reference, monkeypatch
):
    from wine_quality.drift import profile_store

    log = labelled(wines, extremes(wines))
    hours = count(log, reference)
    cut = reference.sums_layout.by_prediction.start
    old = Profile(hours.starts, hours.counts, hours.sums[:, :cut], hours.lows, hours.highs)
    states = dict.fromkeys(hours.starts.tolist(), "x")
    with ProfileStore(url) as store:
        with monkeypatch.context() as patch:
            patch.setattr(profile_store, "PACKING", 1)
            store.replace("3", reference, HOUR_S, states, old)
        loaded = store.load("3", reference, HOUR_S)
    np.testing.assert_array_equal(loaded.sums[:, :cut], hours.sums[:, :cut])
    assert np.isnan(loaded.sums[:, cut:]).all()
    np.testing.assert_array_equal(loaded.lows, hours.lows)
    np.testing.assert_array_equal(loaded.highs, hours.highs)
    assert not selected_hours(loaded, reference, SETTINGS).any()
    # an hour that is counted again adds up with those that were not
    mixed = loaded.rows(0, 1).merge(hours.rows(1, 2))
    day = mixed.regroup(mixed.starts // 86_400 * 86_400)
    assert not find_selection(day, reference, SETTINGS).score.any()
