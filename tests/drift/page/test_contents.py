import gzip
import json
from base64 import b64decode
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from tests.drift.alerting import alert
from tests.drift.page.making import (
    A_DAY,
    NOW,
    SETTINGS,
    START,
    log_of,
    predicted,
    quiet,
    reference,
    sources_of,
    stronger,
    with_incidents,
)
from wine_quality.drift.accepted import AcceptedPeriod, make_reference
from wine_quality.drift.incidents import Handling, Incident, by_cause
from wine_quality.drift.page.contents import MOST_NAMED, MOST_RESOLVED, make_contents
from wine_quality.drift.profiles import window_profile
from wine_quality.drift.verdict_store import CHANGES_DTYPES, Changes
from wine_quality.drift.verdicts import JUDGED_COLUMNS
from wine_quality.drift.vocabulary import UNFINISHED
from wine_quality.wines import QUALITY

SECOND = (START + pd.Timedelta("1D")).to_pydatetime()


def accepted_period():
    """Stronger wines are normal from the second day on."""
    wines = predicted(1500, 8)
    stronger_wines = window_profile(wines.assign(alcohol=wines["alcohol"] + 2), reference())
    made, labelled = make_reference(stronger_wines, reference(), SETTINGS)
    end = SECOND + timedelta(days=1)
    return AcceptedPeriod(
        3, "1", SECOND, end, reference().fingerprint, made, labelled, "ann", "new vintage", NOW
    )


def incident(*alerts, number=7, handling=None):
    closed = None if any(one.is_open for one in alerts) else NOW
    members = by_cause([replace(one, incident=number) for one in alerts])
    return Incident(number, "1", "pH: drift", SECOND, closed, members, handling)


def headline(sources):
    found = make_contents(sources).headline
    return found.state, found.title, found.sentence


# The headline


def test_a_quiet_page_says_that_all_is_well():
    assert headline(quiet()) == (
        "well",
        "All is well",
        "In the newest window (2026-01-03, version 1) wines, data and predictions are as usual.",
    )


def test_without_labels_it_says_what_is_not_known():
    state, title, sentence = headline(sources_of(log_of(2).assign(quality=np.nan)))
    assert (state, title) == ("well", "All is well, as far as can be seen")
    assert sentence.endswith("is not known: no wine of it has ground truth yet.")
    log = log_of(2)
    one = log.assign(quality=log[QUALITY].where(log.index == len(log) - 1))
    assert headline(sources_of(one))[2].endswith("only 1 wine of it has ground truth.")


def test_a_window_beyond_a_threshold_is_no_incident_yet():
    log = log_of(2)
    changed = log.assign(alcohol=log["alcohol"] + 3 * (log["event_time"].dt.day == 2))
    state, title, sentence = headline(sources_of(changed))
    assert (state, title) == ("unknown", "No incident is open, one window is unusual")
    assert sentence.startswith("In the newest window (2026-01-02, version 1) alcohol (% vol.)")
    assert "one window alone is no incident" in sentence


@pytest.mark.parametrize(("wines", "words"), [(1, "it has 1 wine."), (7, "it has 7 wines.")])
def test_a_window_with_few_wines_says_how_many(wines, words):
    state, title, sentence = headline(sources_of(log_of(1, a_day=wines)))
    assert (state, title) == ("unknown", "Too few wines to judge")
    assert (
        sentence
        == f"In the newest window (2026-01-01, version 1) nothing could be judged yet: {words}"
    )


def test_a_window_that_goes_on_says_so():
    sources = sources_of(log_of(1))
    verdicts = sources.verdicts.assign(verdict=UNFINISHED)
    model = sources.model_verdicts.assign(verdict=UNFINISHED)
    found = headline(replace(sources, verdicts=verdicts, model_verdicts=model))
    assert found[2].endswith("nothing could be judged yet: it goes on.")


def test_without_any_window_there_is_a_page_all_the_same():
    sources = quiet()
    whole = sources.verdicts.iloc[:1].assign(
        column="reference", verdict="data_quality", reason="not judged: it is not in the registry"
    )
    none = replace(
        sources, verdicts=whole, model_verdicts=sources.model_verdicts.iloc[:0], hours={}
    )
    contents = make_contents(none)
    assert contents.headline.title == "Nothing could be judged"
    assert contents.whole_versions == ("Version 1: not judged: it is not in the registry",)
    assert contents.subjects == contents.model_charts == contents.traffic_charts == ()


def test_open_incidents_are_said_in_one_sentence_the_worst_first():
    drifted = incident(alert("alcohol", since=SECOND), alert("model", "decayed", since=SECOND))
    faulty = incident(alert("pH", "data_quality", since=SECOND + timedelta(hours=9)), number=8)
    state, title, sentence = headline(with_incidents(quiet(), faulty, drifted))
    assert (state, title) == ("trouble", "2 incidents are open")
    assert sentence == (
        "Alcohol of the wines has changed, since Fri 2026-01-02 00:00 UTC, and predictions are "
        "farther off than before; values of pH are faulty, since Fri 2026-01-02 09:00 UTC."
    )
    assert headline(with_incidents(quiet(), faulty))[1] == "1 incident is open"
    many = [incident(alert("pH"), number=k) for k in range(MOST_NAMED + 2)]
    assert headline(with_incidents(quiet(), *many))[2].endswith("; and 2 more.")


def test_what_is_over_is_no_part_of_the_sentence():
    over = alert("alcohol", since=SECOND, resolved=SECOND + timedelta(hours=3))
    goes_on = incident(over, alert("density", since=SECOND))
    assert "Density of the wines has changed" in headline(with_incidents(quiet(), goes_on))[2]
    assert headline(with_incidents(quiet(), incident(over)))[1] == "All is well"


def test_simulated_wines_have_a_timeline_of_their_own():
    simulated = log_of(3, "1 (simulation)")
    real = log_of(1, a_day=3)
    real["event_time"] += pd.Timedelta("300D")
    contents = make_contents(sources_of(pd.concat([simulated, real], ignore_index=True)))
    windows = contents.shown.windows
    assert [window.version for window in windows] == [*["1 (simulation)"] * 3, "1"]
    assert [window.place for window in windows] == [0, 1, 2, 3]
    assert contents.shown.newest_of_each == [2, 3]
    # three wines of the real timeline do not hide that all is well with the others
    assert contents.headline.title == "All is well"
    assert contents.headline.sentence == (
        "In the newest window (2026-01-03, version 1 (simulation)) wines, data and predictions are "
        "as usual. In the newest window (2026-10-28, version 1) nothing could be judged yet: "
        "it has 3 wines."
    )
    titles = [chart.title for chart in contents.traffic_charts]
    assert titles == [
        "Wines by window", "Wines by hour of the source simulation", "Wines by hour",
    ]  # fmt: skip
    # the months between the two are no hours without traffic
    assert [chart.width for chart in contents.traffic_charts] == [4, 72, 24]


# Incidents


def test_a_card_says_what_since_when_how_sure_and_what_to_do():
    members = alert("alcohol", since=SECOND, new=True), alert("model", "decayed", since=SECOND)
    contents = make_contents(with_incidents(quiet(), incident(*members)))
    (card,) = contents.open
    assert (card.number, card.severity, card.verdict, card.state) == (
        7,
        "critical",
        "drift",
        "open",
    )
    assert card.title == "Alcohol of the wines has changed"
    assert list(card.facts) == ["what", "since", "sure", "error", "to do"]
    assert card.facts["since"].startswith(
        "2026-01-02 00:00 UTC; the onset is between 2026-01-01 23:00"
    )
    assert "mean absolute error" in card.facts["error"]
    assert card.others == [("error of the model (points of quality): ▼ decayed", "because")]
    assert card.is_new
    assert contents.shown.windows[card.window].start == SECOND
    assert contents.since == dict.fromkeys(["alcohol", "model"], "Fri 2026-01-02 00:00 UTC")


def test_a_card_names_who_deals_with_it_while_that_is_in_force():
    muted = Handling("muted", NOW + timedelta(days=1), "ann", "on it", SECOND)
    for handling, state in (
        (muted, "muted by ann until 2026-02-02 00:00 UTC: on it"),
        (replace(muted, until=NOW), "open"),
    ):
        opened = incident(alert("pH"), handling=handling)
        assert make_contents(with_incidents(quiet(), opened)).open[0].state == state


def test_resolved_incidents_are_the_latest_first_and_the_others_counted():
    over = [
        incident(alert("pH", since=SECOND, resolved=SECOND + timedelta(hours=k)), number=k)
        for k in range(1, MOST_RESOLVED + 3)
    ]
    contents = make_contents(with_incidents(quiet(), *over))
    assert [card.number for card in contents.resolved] == list(range(MOST_RESOLVED + 2, 2, -1))
    assert contents.more_resolved == 2
    assert "to do" not in contents.resolved[0].facts
    assert contents.open == ()
    assert contents.since == {}


# Windows and subjects


def test_every_subject_has_a_panel_in_every_window():
    contents = make_contents(stronger())
    assert len(contents.shown.windows) == 3
    names = [subject.key for subject in contents.columns]
    assert names == [*JUDGED_COLUMNS, "joint", "copies"]
    assert [subject.name for subject in contents.model] == ["all wines", "red wines", "white wines"]
    assert all(len(subject.panels) == 3 for subject in contents.subjects)
    alcohol = contents.columns[names.index("alcohol")]
    assert [panel.verdict for panel in alcohol.panels] == ["ok", "drift", "ok"]
    assert "median moved" in alcohol.panels[1].reason
    assert [path.kind for path in alcohol.paths] == ["alarm drift", "score", "score points"]
    assert alcohol.paths[0].d == "M1 0H2V100H1z"
    assert "alarms in 1 of 3 windows" in alcohol.summary
    assert [panel.verdict for panel in contents.model[0].panels] == ["ok", "ok", "no_labels"]


def test_notes_say_what_the_verdict_does_not():
    log = log_of(2)
    log["pH"] = log["pH"].where(log.index >= 1)
    contents = make_contents(sources_of(log))
    by_key = {subject.key: subject for subject in contents.subjects}
    assert by_key["pH"].panels[0].notes.startswith("1 % missing (")
    assert by_key["alcohol"].panels[0].notes == ""
    assert "pair" in by_key["joint"].panels[0].notes
    assert "(covariate)" in by_key["model (all)"].panels[0].notes
    assert by_key["copies"].panels[0].histograms == ()


@pytest.mark.parametrize(
    ("sources", "subject"),
    [
        (lambda: with_incidents(quiet(), incident(alert("density"))), "density"),
        (lambda: sources_of(log_of(1).assign(sulphates=9.0)), "sulphates"),
        (quiet, "fixed_acidity"),
    ],
    ids=["an alert", "an alarm", "all is well"],
)
def test_what_matters_most_is_opened(sources, subject):
    contents = make_contents(sources())
    assert contents.subjects[contents.opened].key == subject


def test_the_script_gets_every_panel_and_reference():
    contents = make_contents(stronger())
    known = json.loads(gzip.decompress(b64decode(contents.packed())))
    assert [window["key"] for window in known["windows"]] == [
        f"2026-01-0{day}T000000_v1" for day in (1, 2, 3)
    ]
    assert known["at"] == pytest.approx([100 / 6, 50, 500 / 6], abs=0.001)
    for plain, subject in zip(known["subjects"], contents.subjects, strict=True):
        for values, panel in zip(plain["panels"], subject.panels, strict=True):
            assert values[:4] == list(panel[:4])
            assert [tuple(one) for one in values[4]] == list(panel.histograms)
        assert plain["references"].keys() == subject.references.keys()


# The model and the traffic


def test_the_model_s_error_is_drawn_beside_what_chance_explains():
    contents = make_contents(quiet())
    error, bias, parts, labels = contents.model_charts
    assert error.title == "Mean absolute error"
    kinds = [path.kind for path in error.paths]
    assert kinds == ["band", "usual", "expected", "expected points", "now", "now points"]
    assert {path.kind for path in bias.paths} >= {"band", "usual", "now"}
    assert [kind for kind, _ in parts.legend] == ["covariate", "now"]
    assert labels.note == "300 wines, none without ground truth."


def test_missing_labels_are_counted_from_where_they_begin():
    contents = make_contents(stronger())
    labels = contents.model_charts[-1]
    assert labels.note == (
        f"{A_DAY} of 300 wines have no ground truth yet, "
        "the first of them in the window 2026-01-03."
    )
    alone = make_contents(sources_of(log_of(1).assign(quality=np.nan))).model_charts
    assert [chart.title for chart in alone] == ["Ground truth"]


def test_the_limit_of_the_bias_is_that_of_its_verdict():
    model = quiet().model_verdicts
    judged = model[model["bias_threshold"].notna()]
    by_bias = judged[judged["value"] == judged["bias_score"].abs()]
    assert len(by_bias)
    assert by_bias["threshold"].tolist() == by_bias["bias_threshold"].tolist()


def test_traffic_is_drawn_by_window_and_by_hour_and_version():
    both = pd.concat([log_of(2), log_of(2, "2", 50)], ignore_index=True)
    by_window, by_hour = make_contents(sources_of(both)).traffic_charts
    assert by_window.width == 2
    assert by_hour.width == 48
    for chart in (by_window, by_hour):
        assert [words for _, words in chart.legend] == ["version 1", "version 2"]
        assert chart.summary.startswith("300 wines, most of them, ")
    # a hundred wines of one and fifty of the other version in two hours
    assert "most of them, 75, from 2026-01-01 00:00 UTC on" in by_hour.summary


def test_hours_are_not_drawn_twice_where_windows_are_hours():
    hourly = sources_of(log_of(1), settings=SETTINGS.model_copy(update={"window": "1h"}))
    assert [chart.title for chart in make_contents(hourly).traffic_charts] == ["Wines by window"]


def test_days_without_traffic_are_named_and_unusual_ones_marked():
    log = log_of(6)
    day = log["event_time"].dt.day
    thin = log[(day < 4) | ((day == 4) & (log.index % 100 < 5)) | (day == 6)]
    (by_window, _) = make_contents(sources_of(thin)).traffic_charts
    assert by_window.note == "Without traffic: 2026-01-05: not one wine in 1 window."
    assert by_window.paths[0].d == "M3 0H4V100H3z"


# Further


def test_changed_verdicts_say_what_they_were():
    moment = pd.Timestamp("2026-01-05", tz="UTC")
    change = {
        **dict.fromkeys(CHANGES_DTYPES, 0),
        "window_start": moment,
        "window_end": moment + pd.Timedelta("1D"),
        "decided_at": moment + pd.Timedelta("90s"),
        "subject": "model (all)",
        "verdict": "decayed",
        "before": "no_labels",
        "reason": "worse",
    }
    newest = pd.DataFrame([change]).astype(CHANGES_DTYPES)
    contents = make_contents(replace(quiet(), changes=Changes(newest, 8)))
    (found,) = contents.changes
    assert (found.window, found.subject, found.verdict) == ("2026-01-05", "model (all)", "decayed")
    assert found.words == "was no ground truth until 2026-01-05 00:01 UTC"
    assert contents.more_changes == 7
    assert contents.written == "2026-02-01 00:00 UTC"


def test_each_window_is_shown_beside_the_reference_that_it_is_compared_with():
    log = log_of(3)
    later = log["event_time"].dt.day > 1
    stronger_log = log.assign(alcohol=log["alcohol"] + 2 * later)
    page = make_contents(sources_of(stronger_log, accepted={"1": (accepted_period(),)}))
    since = "1, 2026-01-02 UTC"
    assert page.compared_with == ("1", since, since)
    alcohol = next(subject for subject in page.columns if subject.key == "alcohol")
    assert [panel.verdict for panel in alcohol.panels] == ["ok", "ok", "ok"]
    medians = [
        float(alcohol.references[name][0].words.rpartition("median ")[2].split()[0])
        for name in ("1", since)
    ]
    assert medians[1] - medians[0] == pytest.approx(2, abs=0.4)
    assert all(panel.histograms for panel in alcohol.panels)
    packed = json.loads(gzip.decompress(b64decode(page.packed())))
    assert [window["reference"] for window in packed["windows"]] == ["1", since, since]


def test_what_is_chosen_is_said():
    settings = SETTINGS.model_copy(
        update={"columns_left_out": ("pH",), "sources_left_out": ("load-test",)}
    )
    sources = sources_of(log_of(3), settings=settings, accepted={"1": (accepted_period(),)})
    chosen = make_contents(sources).choices
    assert chosen["windows"].startswith("1D of event time")
    assert "1 alerts in 30 days" not in chosen["false alarms"]
    assert chosen["false alarms"] == "1 % of windows without a change; 1 alert in 30 days"
    assert chosen["columns left out"] == "pH"
    assert chosen["sources judged apart"] == "simulation"
    assert chosen["sources left out"] == "load-test"
    assert chosen["accepted period 3"].startswith(
        "since then the reference is version 1, 2026-01-02 UTC: 1,500 wines, errors of 1,500 "
        "labelled wines; accepted by ann on 2026-02-01: new vintage"
    )
    assert "accepted period 3" not in make_contents(sources_of(log_of(3))).choices
