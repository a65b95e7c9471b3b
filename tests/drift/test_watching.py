import numpy as np
import pandas as pd
import pytest

from wine_quality.drift.profiles import HOUR_S, Profile, count
from wine_quality.drift.reference import Reference
from wine_quality.drift.watching import Finding, _one_per_incident, find_changes
from wine_quality.wines import PARTS_OF_TOTALS

START = pd.Timestamp("2026-03-01", tz="UTC")
BEGIN = int(START.timestamp())
DAYS, PER_HOUR, ONSET = 5, 20, 72
HOURS = 24 * DAYS


@pytest.fixture(scope="module")
def own(draw_wines) -> Reference:
    return Reference.from_wines(draw_wines(4000, 1))


@pytest.fixture(scope="module")
def find(draw_wines, own):
    """Find what changes in five days of hours; `spoil` takes wines and whether they are late."""

    def find(spoil=lambda wines, late: wines, seed=11, per_month=1.0, until=HOURS) -> list[Finding]:
        wines = draw_wines(HOURS * PER_HOUR, seed)
        hour = np.arange(len(wines)) // PER_HOUR
        wines = spoil(wines, (hour >= ONSET) & (hour < until))
        log = wines.assign(event_time=START + pd.to_timedelta(hour, unit="h"))
        return find_changes({"3": count(log, own)}, {"3": own}, per_month)

    return find


def of(findings, subject):
    return [finding for finding in findings if finding.subject == subject]


def test_nothing_is_found_where_nothing_changes(find):
    # ten times five days at one a month: 1.7 are allowed
    assert sum(len(find(seed=seed)) for seed in range(20, 30)) <= 4


def test_a_column_that_is_left_out_is_not_watched(draw_wines, own):
    wines = draw_wines(HOURS * PER_HOUR, 11)
    hour = np.arange(len(wines)) // PER_HOUR
    late = hour >= ONSET
    wines = wines.assign(pH=wines["pH"] + late, alcohol=wines["alcohol"].where(~late))
    log = wines.assign(event_time=START + pd.to_timedelta(hour, unit="h"))
    counted = {"3": count(log, own)}
    found = {finding.subject for finding in find_changes(counted, {"3": own}, 1.0)}
    assert {"pH", "alcohol"} <= found
    left = find_changes(counted, {"3": own}, 1.0, ("pH", "alcohol"))
    assert not {"pH", "alcohol"} & {finding.subject for finding in left}


def test_no_versions_and_no_hours_are_no_changes(own):
    assert find_changes({}, {}, 1.0) == []
    assert find_changes({"3": Profile.empty(own)}, {"3": own}, 1.0) == []


def test_a_shift_is_found_since_when_it_began(find):
    def spoil(wines, late):
        return wines.assign(pH=wines["pH"] + 0.5 * wines["pH"].std() * late)

    covered = 0
    for seed in range(40, 46):
        findings = of(find(spoil, seed), "pH")
        assert len(findings) == 1
        (finding,) = findings
        onset = BEGIN + ONSET * HOUR_S
        assert finding.verdict == "drift"
        assert finding.earliest <= finding.since <= finding.latest <= finding.found
        assert abs(finding.since - onset) <= 12 * HOUR_S
        assert onset < finding.found <= onset + 24 * HOUR_S
        assert finding.resolved is None
        assert "median went from" in finding.reason
        covered += finding.earliest <= onset <= finding.latest
    # nine of ten are expected
    assert covered >= 4


def test_a_change_that_ends_is_resolved(find):
    def spoil(wines, late):
        return wines.assign(alcohol=wines["alcohol"] + wines["alcohol"].std() * late)

    findings = of(find(spoil, until=ONSET + 16), "alcohol")
    assert len(findings) == 1
    ends = BEGIN + (ONSET + 16) * HOUR_S
    assert findings[0].resolved is not None
    assert ends <= findings[0].resolved <= ends + 24 * HOUR_S


def test_a_shift_of_the_reds_is_found_among_them(find):
    def spoil(wines, late):
        moved = (wines["type"] == "red") & late
        return wines.assign(sulphates=wines["sulphates"] + 0.15 * moved)

    (finding,) = of(find(spoil), "sulphates")
    assert finding.segment == "red"
    assert finding.reason.startswith("among red wines, median went from ")


def test_other_types_missing_values_and_impossible_wines_are_found(find):
    ((part, whole),) = PARTS_OF_TOTALS

    def spoil(wines, late):
        every_fifth = late & (wines.index % 5 == 0)
        return wines.assign(
            type=np.where(late & (wines.index % 2 == 0), "red", wines["type"]),
            chlorides=wines["chlorides"].mask(every_fifth),
            **{part: wines[part].mask(every_fifth, wines[whole] * 1.01)},
        )

    findings = find(spoil)
    (shares,) = [f for f in of(findings, "type") if f.verdict == "drift"]
    assert shares.reason.startswith("share of white went from 7")
    (gaps,) = [f for f in of(findings, "chlorides") if f.verdict == "data_quality"]
    assert "values are missing, invalid, implausible or unknown, against" in gaps.reason
    (impossible,) = [f for f in of(findings, part) if f.verdict == "data_quality"]
    assert "impossible (a part exceeds its total)" in impossible.reason


def test_stricter_tasters_are_decay_and_a_better_model_is_none(find):
    def stricter(wines, late):
        return wines.assign(quality=wines["quality"] - 0.5 * late)

    decayed = [f for f in find(stricter) if f.verdict == "decayed"]
    assert [f.subject for f in decayed] == ["model"]
    assert decayed[0].reason.startswith(("mean error went from", "mean absolute error went from"))

    def better(wines, late):
        error = wines["prediction"] - wines["quality"]
        return wines.assign(quality=wines["prediction"] - np.where(late, 0.3, 1) * error)

    assert not [f for f in find(better) if f.verdict == "decayed"]


def test_a_broken_relation_is_found_as_joint(draw_wines):
    """Alcohol follows from density; on the fourth day it is mixed up among the wines."""

    def related(n, seed):
        wines = draw_wines(n, seed)
        noise = np.random.default_rng(seed).normal(size=n)
        z = (wines["density"] - 0.9947) / 0.003
        return wines.assign(alcohol=10.5 - z + 0.4 * noise)

    own, wines = Reference.from_wines(related(4000, 1)), related(HOURS * PER_HOUR, 12)
    hour = np.arange(len(wines)) // PER_HOUR
    mixed, late = wines["alcohol"].to_numpy().copy(), hour >= ONSET
    mixed[late] = np.random.default_rng(1).permutation(mixed[late])
    log = wines.assign(alcohol=mixed, event_time=START + pd.to_timedelta(hour, unit="h"))
    findings = find_changes({"3": count(log, own)}, {"3": own}, 1.0)
    assert [f.subject for f in findings] == ["joint"]
    assert "no longer go together: density and alcohol" in findings[0].reason
    assert abs(findings[0].since - BEGIN - ONSET * HOUR_S) <= 6 * HOUR_S


def test_copies_are_worth_less(find):
    def spoil(wines, late):
        # each hour's wines are four wines, five times
        first = np.arange(len(wines)) // 5 * 5
        return wines.iloc[first].reset_index(drop=True)

    assert len(find(spoil)) <= 1


def test_versions_share_the_promise_and_are_told_apart(draw_wines, own):
    wines = draw_wines(HOURS * PER_HOUR, 12)
    hour = np.arange(len(wines)) // PER_HOUR
    log = wines.assign(event_time=START + pd.to_timedelta(hour, unit="h"))
    moved = log.assign(pH=log["pH"] + 0.1 * (hour >= ONSET))
    # the second version answers from the third day on alone
    profiles = {"3": count(log, own), "4": count(moved[hour >= 48], own)}
    found = find_changes(profiles, {"3": own, "4": own}, 1.0)
    assert {f.model_version for f in of(found, "pH")} == {"4"}


def finding(found, resolved, subject="pH", verdict="drift"):
    hours = [None if h is None else h * HOUR_S for h in (found, found, found, found, resolved)]
    return Finding(verdict, "3", subject, "all", *hours, 5, "so")


def test_a_subject_is_one_finding_while_it_lasts():
    findings = [
        finding(1, 10),
        finding(2, 20),  # another segment
        finding(3, 5, subject="alcohol"),
        finding(4, None, verdict="data_quality"),
        finding(60, 70),  # within two days after the end
        finding(119, 130),  # settled before
        finding(140, None),
    ]
    kept = [
        (f.subject, f.verdict, f.found // HOUR_S, f.resolved and f.resolved // HOUR_S)
        for f in _one_per_incident(findings)
    ]
    assert kept == [
        ("pH", "drift", 1, 70),
        ("alcohol", "drift", 3, 5),
        ("pH", "data_quality", 4, None),
        ("pH", "drift", 119, None),
    ]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda w: w.head(1),
        lambda w: w.head(30),
        lambda w: w.assign(type="white"),
        lambda w: w.assign(pH=np.nan, quality=np.nan),
        lambda w: w.assign(pH=3.2, prediction=6.0, quality=6.0),
    ],
)
def test_odd_references_find_what_they_can_without_a_warning(spoil, draw_wines):
    odd = Reference.from_wines(spoil(draw_wines(600, 1)))
    wines = draw_wines(600, 2)
    late = wines.index >= 300
    wines = wines.assign(alcohol=wines["alcohol"].mask(late, 1e300), type=wines["type"].mask(late))
    log = wines.assign(event_time=START + pd.to_timedelta(wines.index // 50, unit="h"))
    for found in find_changes({"3": count(log, odd)}, {"3": odd}, 1.0):
        assert "nan" not in found.reason
