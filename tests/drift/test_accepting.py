"""A period of logged traffic becomes a version's reference, and is taken back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from wine_quality.drift.acceptance_store import AcceptanceStore
from wine_quality.drift.accepted import (
    AcceptedPeriod,
    Withdrawal,
    coarse_columns,
    epochs_of_evidence,
    epochs_of_windows,
    in_force,
    make_reference,
)
from wine_quality.drift.accepting import Acceptance, Proposal
from wine_quality.drift.alerts import AlertSettings
from wine_quality.drift.incident_store import IncidentStore
from wine_quality.drift.profile_store import ProfileStore
from wine_quality.drift.profiles import HOUR_S, count, window_profile
from wine_quality.drift.reference import ABSOLUTE_ERROR, ERROR, Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdict_store import VerdictStore, subject_verdicts
from wine_quality.errors import WineQualityError
from wine_quality.pipelines.monitoring import nodes
from wine_quality.wines import QUALITY

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SETTINGS = DriftSettings(resamples=1000, seed=2009)
PER_HOUR, DAYS = 25, 8
STRONG_FROM, ACCEPTED_TO = 2, 5
"""Days: since when alcohol is higher, and until when that is accepted."""
NOW = datetime(2026, 4, 1, tzinfo=UTC)


class Versions:
    def key(self, version):
        if version != "3":
            raise WineQualityError(f"Version {version} of wine-quality is not in the registry.")
        return "wine-quality/3/run"


@pytest.fixture(scope="module")
def wines(draw_wines):
    """Alcohol is a point higher from the third day on."""
    drawn = draw_wines(DAYS * 24 * PER_HOUR, 22)
    hour = np.arange(len(drawn)) // PER_HOUR
    stronger = drawn["alcohol"] + 1.0 * (hour >= 24 * STRONG_FROM)
    moments = pd.Timestamp(START) + pd.to_timedelta(hour, unit="h")
    return drawn.assign(alcohol=stronger, event_time=moments)


class Deployment:
    """What monitoring does, without a log: hours are counted by hand."""

    def __init__(self, url, registered):
        self.url, self.registered = url, registered
        self.acceptance = Acceptance(url, Versions(), SETTINGS)

    def count(self, wines, version="3"):
        profile = count(wines, self.registered)
        states = {start: f"{n}" for start, n in zip(profile.starts, profile.wines, strict=True)}
        with ProfileStore(self.url) as store:
            store.keep_reference("wine-quality/3/run", self.registered)
            plain = {int(start): state for start, state in states.items()}
            is_first = not store.states(version, self.registered, HOUR_S)
            store.replace(version, self.registered, HOUR_S, plain, profile, is_first=is_first)

    def run(self):
        """Judge, record and follow; returns verdicts, model verdicts and alerts."""
        described = {"3": self.registered.to_dict()}
        settings = AlertSettings()
        with (
            ProfileStore(self.url) as profiles,
            VerdictStore(self.url) as history,
            IncidentStore(self.url) as incidents,
            AcceptanceStore(self.url) as acceptances,
        ):
            accepted = nodes.list_accepted_periods(acceptances, described)
            verdicts, model, findings, *_ = nodes.judge_windows(
                profiles, described, accepted, {}, SETTINGS, settings
            )
            history.record(subject_verdicts(verdicts, model, SETTINGS.window), NOW)
            alerts = nodes.raise_alerts(findings, verdicts, model, incidents, settings)
        return verdicts, model, alerts

    def incidents(self):
        with IncidentStore(self.url) as store:
            return store.incidents()

    def accept(self, since=STRONG_FROM, until=ACCEPTED_TO, version=None, **changes):
        proposal = Proposal(
            START + since * DAY, START + until * DAY, version, "ann", "a new vintage", NOW
        )
        return self.acceptance.accept(replace(proposal, **changes))

    def withdraw(self, number):
        with AcceptanceStore(self.url) as store:
            return store.withdraw(number, Withdrawal("bob", "it was the sensor", NOW))


@pytest.fixture
def deployment(url, reference, wines):
    deployment = Deployment(url, reference)
    deployment.count(wines)
    return deployment


def drifting_days(verdicts, column="alcohol"):
    rows = verdicts[(verdicts["column"] == column) & (verdicts["verdict"] == "drift")]
    return [(start - pd.Timestamp(START)).days for start in rows["window_start"]]


def test_an_accepted_period_is_the_reference_from_its_start_on(deployment, reference):
    before, _, alerts = deployment.run()
    assert drifting_days(before) == list(range(STRONG_FROM, DAYS))
    (alert,) = [a for a in alerts if a["subject"] == "alcohol"]
    assert alert["open"]

    period = deployment.accept()
    assert (period.number, period.model_version, period.person) == (1, "3", "ann")
    assert period.reference.rows == 24 * PER_HOUR * (ACCEPTED_TO - STRONG_FROM)
    assert period.labelled == period.reference.rows
    # the same cells, so that no hour is counted again
    assert period.reference.cells == reference.cells

    after, _, alerts = deployment.run()
    assert drifting_days(after) == []
    # what was before keeps its verdicts
    early = before["window_start"] < pd.Timestamp(START + STRONG_FROM * DAY)
    pd.testing.assert_frame_equal(after[early], before[early])
    (alert,) = [a for a in alerts if a["subject"] == "alcohol"]
    assert not alert["open"]
    assert alert["resolved"] == (START + ACCEPTED_TO * DAY).isoformat()
    assert alert["reason"].endswith(
        "; accepted as normal with 2026-03-03 to 2026-03-05 UTC (accepted period 1)"
    )
    assert not any(incident.is_open for incident in deployment.incidents())


def test_windows_of_an_accepted_period_are_judged_again_however_old_they_are(deployment):
    deployment.run()
    deployment.accept()
    with ProfileStore(deployment.url) as store:
        changed = store.recounted("3", deployment.registered, HOUR_S)
    since = START + STRONG_FROM * DAY
    assert len(changed) == 24 * (DAYS - STRONG_FROM)
    assert min(changed) == int(since.timestamp())


def test_what_changes_after_an_accepted_period_is_another_alert(deployment, wines):
    deployment.run()
    deployment.accept()
    late = wines["event_time"] >= pd.Timestamp(START + (ACCEPTED_TO + 1) * DAY)
    # back to what the version was registered with: a change, now
    deployment.count(wines.assign(alcohol=wines["alcohol"] - 1.0 * late))
    verdicts, _, alerts = deployment.run()
    assert drifting_days(verdicts) == list(range(ACCEPTED_TO + 1, DAYS))
    old, new = (a for a in alerts if a["subject"] == "alcohol")
    assert (old["open"], new["open"]) == (False, True)
    assert old["incident"] != new["incident"]
    assert new["since"] >= (START + (ACCEPTED_TO + 1) * DAY - DAY / 4).isoformat()


def test_a_period_that_is_withdrawn_counts_no_longer(deployment):
    before, model, alerts = deployment.run()
    deployment.accept()
    deployment.run()
    withdrawn = deployment.withdraw(1)
    assert withdrawn.describe().endswith(
        "accepted by ann on 2026-04-01: a new vintage; withdrawn by bob on 2026-04-01: "
        "it was the sensor"
    )
    again, model_again, alerts_again = deployment.run()
    pd.testing.assert_frame_equal(again, before)
    pd.testing.assert_frame_equal(model_again, model)
    open_before, open_again = (
        {(a["subject"], a["incident"]) for a in found if a["open"]}
        for found in (alerts, alerts_again)
    )
    assert open_again == open_before
    with pytest.raises(WineQualityError, match="Accepted period 1 was withdrawn by bob"):
        deployment.withdraw(1)
    with pytest.raises(WineQualityError, match="There is no accepted period 2"):
        deployment.withdraw(2)
    # it may be accepted again
    assert deployment.accept().number == 2


def test_without_labels_the_errors_stay_those_before(url, reference, wines):
    deployment = Deployment(url, reference)
    since = START + STRONG_FROM * DAY
    # tasters are a point stricter, and nobody labels the accepted period
    late = wines["event_time"] >= pd.Timestamp(since)
    unlabelled = late & (wines["event_time"] < pd.Timestamp(START + ACCEPTED_TO * DAY))
    stricter = (wines[QUALITY] - late).mask(unlabelled)
    deployment.count(wines.assign(quality=stricter))
    _, before, alerts = deployment.run()
    period = deployment.accept()
    assert period.labelled == 0
    assert "errors as before" in period.describe()
    for column in (ERROR, ABSOLUTE_ERROR):
        place = reference.cells[column]
        assert (period.reference.by_segment[:, place] == reference.by_segment[:, place]).all()
    after, model, alerts_after = deployment.run()
    assert drifting_days(after) == []
    assert model["verdict"].tolist() == before["verdict"].tolist()
    assert model["reference_mae"].tolist() == before["reference_mae"].tolist()
    decay, decay_after = (
        [a for a in found if a["verdict"] == "decayed"] for found in (alerts, alerts_after)
    )
    assert [a["open"] for a in decay_after] == [True] == [a["open"] for a in decay]


def test_accepted_labels_are_the_reference_of_the_error(url, reference, wines):
    deployment = Deployment(url, reference)
    late = wines["event_time"] >= pd.Timestamp(START + STRONG_FROM * DAY)
    deployment.count(wines.assign(quality=wines[QUALITY] - late))
    _, before, alerts = deployment.run()
    assert "decayed" in {a["verdict"] for a in alerts if a["open"]}
    deployment.accept()
    _, model, alerts = deployment.run()
    assert not any(a["open"] for a in alerts)
    whole = model[model["segment"] == "all"]
    assert (whole["verdict"] == "ok").all()
    accepted = wines[late & (wines["event_time"] < pd.Timestamp(START + ACCEPTED_TO * DAY))]
    mae = (accepted["prediction"] - accepted[QUALITY] + 1).abs().mean()
    assert whole["reference_mae"].iloc[-1] == pytest.approx(mae)
    assert whole["reference_mae"].iloc[0] == before["reference_mae"].iloc[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"end": START}, "ends \\(2026-03-01 00:00\\) before it begins"),
        ({"start": START + DAY / 48}, "2026-03-01 00:30 UTC is no whole hour"),
        ({"version": "4"}, "Version 4 of wine-quality is not in the registry"),
        ({"end": START + 9 * DAY}, "not finished: .* judged only until 2026-03-09 00:00 UTC"),
        (
            {"start": START - 9 * DAY, "end": START - 8 * DAY},
            "No wine is counted in 2026-02-20 UTC",
        ),
        (
            {"start": START - 9 * DAY, "end": START - 8 * DAY, "version": "3"},
            "Version 3 has no counted wine in 2026-02-20 UTC",
        ),
        (
            {"start": START, "end": START + DAY},
            "The period has 600 wines.*, fewer than the 1,000 that a reference needs",
        ),
    ],
)
def test_what_cannot_be_a_reference_is_refused_in_a_line(deployment, changes, words):
    deployment.run()
    with pytest.raises(WineQualityError, match=words) as refused:
        deployment.accept(**changes)
    assert "\n" not in str(refused.value)
    with AcceptanceStore(deployment.url) as store:
        assert store.periods() == []


def test_what_was_never_judged_or_goes_on_is_refused(deployment):
    with pytest.raises(WineQualityError, match="has been judged not at all"):
        deployment.accept()
    with VerdictStore(deployment.url) as history:
        verdicts, model, _ = deployment.run()
        going_on = [
            table[table["window_start"] == table["window_start"].max()].assign(verdict="unfinished")
            for table in (verdicts, model)
        ]
        history.record(subject_verdicts(*going_on, SETTINGS.window), NOW + DAY)
    with pytest.raises(WineQualityError, match="judged only until 2026-03-08 00:00 UTC"):
        deployment.accept(until=DAYS)


def test_faulty_values_are_no_normal_state(url, reference, wines):
    deployment = Deployment(url, reference)
    faulty = wines["event_time"].dt.day == 4
    deployment.count(wines.assign(pH=wines["pH"].mask(faulty & (wines.index % 3 == 0))))
    deployment.run()
    with pytest.raises(WineQualityError, match="pH has the verdict data_quality in 2026-03-04"):
        deployment.accept()
    # an alert of it that began before, and goes on, is as bad as a verdict
    with pytest.raises(WineQualityError, match="data_quality"):
        deployment.accept(since=3)


def test_several_versions_with_wines_have_to_be_told_apart(deployment, wines):
    deployment.count(wines.head(100), "3 (simulation)")
    deployment.run()
    with pytest.raises(
        WineQualityError, match="add --version '3' or --version '3 \\(simulation\\)'"
    ):
        deployment.accept(since=0, until=2)
    assert deployment.accept(version="3", since=0, until=2).model_version == "3"


def test_accepted_periods_do_not_overlap_and_follow_each_other(deployment):
    deployment.run()
    deployment.accept(since=2, until=4)
    with pytest.raises(WineQualityError, match=r"Period 1 .* is accepted already"):
        deployment.accept(since=3, until=6)
    second = deployment.accept(since=5, until=7)
    with AcceptanceStore(deployment.url) as store:
        kept = store.periods()
    assert kept[1] == second
    assert in_force(kept, "3") == tuple(kept)
    verdicts, _, _ = deployment.run()
    assert drifting_days(verdicts) == []


# References


def period_of(reference, since, until, labelled=0, number=1):
    return AcceptedPeriod(
        number, "3", START + since * DAY, START + until * DAY, "registered", reference, labelled,
        "ann", "", NOW,
    )  # fmt: skip


def test_windows_change_at_the_starts_and_evidence_at_the_ends(reference, draw_wines):
    others = [Reference.from_wines(draw_wines(300, seed)) for seed in (5, 6)]
    periods = [period_of(others[0], 2, 4), period_of(others[1], 7, 9, number=2)]
    begin = int(START.timestamp())

    def bounds(epochs):
        return [((e.since - begin) / 86_400, e.reference, e.ended_by) for e in epochs][1:]

    assert bounds(epochs_of_windows(reference, periods)) == [
        (2, others[0], periods[1]),
        (7, others[1], None),
    ]
    assert bounds(epochs_of_evidence(reference, periods)) == [
        (4, others[0], periods[1]),
        (9, others[1], None),
    ]
    (only,) = epochs_of_windows(reference, [])
    assert (only.reference, only.period, only.ended_by) == (reference, None, None)


def test_a_reference_has_the_counts_sums_and_ranges_of_its_wines(reference, draw_wines):
    wines = draw_wines(2000, 8)
    made, labelled = make_reference(window_profile(wines, reference), reference, SETTINGS)
    assert (made.rows, labelled) == (2000, 2000)
    assert made.by_segment.sum() == len(made.columns) * 2000
    place = made.columns.index(made.bins("alcohol"))
    assert (made.lows[place], made.highs[place]) == (
        wines["alcohol"].min(), wines["alcohol"].max(),
    )  # fmt: skip
    errors = np.array(made.sums)[made.sums_layout.errors].reshape(-1, 6).sum(axis=0)
    assert errors[0] == 2000
    assert errors[2] == pytest.approx((wines["prediction"] - wines[QUALITY]).abs().sum())
    # what is stored is what was made
    assert Reference.from_dict(made.to_dict()) == made


def test_copies_make_a_reference_worth_less(reference, draw_wines):
    once = draw_wines(800, 9)
    with pytest.raises(WineQualityError, match=r"1,600 wines worth \d{3} different ones"):
        make_reference(window_profile(pd.concat([once, once]), reference), reference, SETTINGS)


def test_columns_that_moved_out_of_the_bins_are_named(reference, draw_wines):
    far = draw_wines(1500, 10).assign(alcohol=lambda wines: wines["alcohol"] + 5)
    made, _ = make_reference(window_profile(far, reference), reference, SETTINGS)
    (said,) = coarse_columns(made, reference)
    assert said.startswith("alcohol (")
    assert said.endswith(" % of wines in one bin)")
    near, _ = make_reference(window_profile(draw_wines(1500, 11), reference), reference, SETTINGS)
    assert coarse_columns(near, reference) == []
