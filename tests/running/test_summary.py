from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from io import StringIO

import pandas as pd
import pytest
from rich.console import Console

from wine_quality.drift.accepted import AcceptedPeriod
from wine_quality.drift.alerts import Alert
from wine_quality.drift.reference import Reference
from wine_quality.modelling.shadow_comparison import ShadowComparison
from wine_quality.running.summary import (
    MOST_ALERTS,
    SECTIONS,
    SUMMARISED,
    outcome,
    print_summary,
    write_note,
)
from wine_quality.traffic.synthetic import draw_wines

WINE_AUDIT = {
    "read": 6500,
    "accepted": 6497,
    "rejected": 3,
    "rejected_by_reason": {"quality is missing": 2, "wrong number of fields": 1},
    "by_type": {"red": 1599, "white": 4898},
    "exact_duplicates": 1177,
    "missing": {"pH": 9, "alcohol": 2},
}
SPLIT_AUDIT = {
    "training_rows": 5200,
    "held_out_rows": 1297,
    "held_out_rows_in_training": 0,
    "distinct_complete_rows": 1000,
    "distinct_complete_rows_in_training": 0,
}
COMPARISON = pd.DataFrame(
    {
        "candidate": ["extra_trees_regressor", "decision_tree"],
        "rank": [1, 2],
        "rmse": [0.6514, 0.8],
        "mae": [0.5021, 0.6],
        "r2": [0.4, 0.1],
        "accuracy_within_0.5": [0.591, 0.5],
        "accuracy_within_1.0": [0.9, 0.8],
        "weighted_kappa": [0.5, 0.3],
        "rmse_std": [0.0123, 0.02],
        "behind": [0.0, 0.1486],
        "behind_low": [0.0, 0.1086],
        "behind_high": [0.0, 0.1886],
    }
)
TUNING_RESULTS = pd.DataFrame(
    {
        "candidate": ["k_neighbors", "decision_tree"],
        "metric": "rmse",
        "finished": [40, 8],
        "pruned": [11, 0],
        "configured": [0.71234, 0.8],
        "best": [0.70111, 0.8],
        "settings": ["n_neighbors 12", "as configured"],
    }
)
PUBLISHED = pd.DataFrame(
    {
        "candidate": ["random_forest"],
        "rmse_published": [0.0822],
        "rmse_held_out": [0.0831],
        "rmse_folds": [0.7],
        "r2_published": [0.9911],
        "r2_held_out": [0.9909],
        "r2_folds": [0.3],
    }
)
SECONDS = {
    "serving_simulation.open_period": 0.1,
    "processing.split_wines": 1.25,
    "training.xgboost.cross_validate_candidate": 7.04,
    "training.assign_folds": 0.5,
    "processing.audit_wines": 0.25,
}
HELD_OUT_INTERVALS = {
    "all": {
        "rmse": {"low": 0.62, "high": 0.7},
        "mae": {"low": 0.48, "high": 0.54},
        "r2": {"low": 0.35, "high": 0.43},
        "accuracy_within_0.5": {"low": 0.55, "high": 0.61},
    }
}
HELD_OUT_METRICS = {"all": {"rmse": 0.66, "mae": 0.51, "r2": 0.39, "accuracy_within_0.5": 0.58}}
SCORES = {"held_out_metrics": HELD_OUT_METRICS, "held_out_intervals": HELD_OUT_INTERVALS}
PROMOTION = {
    "model": "wine-quality",
    "version": "7",
    "promoted": True,
    "champion": "7",
    "reason": "it is better: gain +0.02",
}
TRAFFIC = {
    "sent": 1200,
    "acknowledged": 1150,
    "refused": 20,
    "undelivered": 30,
    "retried": 40,
    "model_versions": ["7", "8"],
    "first_event": "2026-01-01 00:03 UTC",
    "last_event": "2026-01-01 23:58 UTC",
    "rows_per_second": 4321.4,
    "latency_p50_ms": 12.3,
    "latency_p95_ms": 45.6,
    "latency_p99_ms": None,
    "error": "it is away",
    "drift": [],
}
DRIFT = {
    "name": "sweeter",
    "kind": "noise",
    "subject": "residual_sugar",
    "onset": "2026-01-01T06:00:00+00:00",
    "until": "2026-01-01T18:30:00+00:00",
}


def verdicts(start: str, subject: str, **verdict_by_subject: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "window_start": pd.Timestamp(start, tz="UTC"),
            "model_version": "7",
            subject: list(verdict_by_subject),
            "verdict": list(verdict_by_subject.values()),
            "reason": [f"because of {name}: so" for name in verdict_by_subject],
        }
    )


def printed(outputs, places=None, *, colour=False) -> str:
    out = StringIO()
    console = Console(file=out, width=160, color_system="standard" if colour else None)
    console._force_terminal = colour
    print_summary(outputs, places or {}, console)
    return out.getvalue()


def test_without_outputs_there_is_no_section():
    assert printed({}).split() == ["─" * 73, "wine_quality", "─" * 73]


def test_what_a_summary_tells_of():
    assert {
        "wine_audit",
        "split_audit",
        "comparison",
        "published_comparison",
        "promotion",
        "held_out_metrics",
        "held_out_intervals",
        "tuning_results",
        "traffic_summary",
        "label_delivery",
        "verdicts",
        "model_verdicts",
        "alerts",
        "shadow_comparisons",
        "accepted_periods",
        "retraining",
        "traffic_audit",
    } == SUMMARISED


def test_published_figures_stand_beside_ours_and_the_leakage_is_named():
    audit = SPLIT_AUDIT | {"held_out_rows_in_training": 1200}
    text = printed({"published_comparison": PUBLISHED, "split_audit": audit})
    row = next(line for line in text.splitlines() if "random forest" in line)
    assert row.split()[2:] == ["0.082", "0.083", "0.700", "0.991", "0.991", "0.300"]
    assert "1,200 of 1,297 of which were trained on" in text


def test_wines():
    text = printed({"wine_audit": WINE_AUDIT, "split_audit": SPLIT_AUDIT})
    assert "Wines" in text
    assert "6,500 read, 6,497 accepted (1,599 red and 4,898 white), 3 rejected" in text
    assert "1,177 exact duplicates, 11 missing values" in text
    assert "rejected: 2 because quality is missing" in text
    assert "rejected: 1 because wrong number of fields" in text
    assert "5,200 for training, 1,297 held out, 0 of them also among the training wines" in text
    assert "LEAKAGE" not in text


def test_wines_without_a_split():
    text = printed({"wine_audit": WINE_AUDIT})
    assert "6,500 read" in text
    assert "held out" not in text


def test_leakage_is_shouted():
    leaking = SPLIT_AUDIT | {
        "held_out_rows_in_training": 1290,
        "distinct_complete_rows_in_training": 995,
    }
    text = printed({"wine_audit": WINE_AUDIT, "split_audit": leaking})
    assert "LEAKAGE: 995 of 1,000 distinct complete held-out wines stand in" in text
    assert "scores on the held-out wines" in text
    # the folds of the tables below it hold unseen wines
    assert "below" not in text


def test_candidates():
    lines = printed({"comparison": COMPARISON}).splitlines()
    header = next(line for line in lines if "candidate" in line and "RMSE" in line)
    assert header.split() == (
        ["candidate", "RMSE", "±", "sd", "behind", "(95", "%)", "MAE", "≤", "0.5"]
    )
    assert lines[lines.index(header) + 1].split() == (
        ["1", "extra", "trees", "regressor", "0.651", "±", "0.012", "0.502", "59.1%"]
    )
    assert lines[lines.index(header) + 2].split() == (
        ["2", "decision", "tree", "0.800", "±", "0.020", "+0.149", "±", "0.040", "0.600", "50.0%"]
    )


def test_candidates_by_another_metric():
    by_mae = COMPARISON.rename(columns={"rmse_std": "mae_std"})
    text = printed({"comparison": by_mae})
    assert "MAE ± sd" in text
    assert "0.502 ± 0.012" in text


def test_tuning():
    rows = [line.split() for line in printed({"tuning_results": TUNING_RESULTS}).splitlines()]
    assert ["Tuning"] in rows
    assert [
        "k",
        "neighbors",
        "40",
        "(11",
        "pruned)",
        "RMSE",
        "0.7123",
        "0.7011",
        "n_neighbors",
        "12",
    ] in rows
    best = ["RMSE", "0.8000", "0.8000", "as", "configured"]
    assert ["decision", "tree", "8", "(0", "pruned)", *best] in rows


def test_the_seconds_of_each_stage_and_its_longest_step():
    out = StringIO()
    print_summary({}, {}, Console(file=out, width=160), SECONDS)
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert ["processing", "1.5", "split", "wines,", "1.2"] in rows
    # in the order of the data, though the simulation opened its period first
    assert [row[0] for row in rows[-3:]] == ["processing", "training", "serving"]
    assert ["training", "7.5", "xgboost:", "cross", "validate", "candidate,", "7.0"] in rows


def test_a_new_champion():
    text = printed({"promotion": PROMOTION, **SCORES})
    assert "wine-quality version 7 is champion: it is better: gain +0.02" in text
    assert "RMSE 0.660 (0.620 to 0.700), MAE 0.510 (0.480 to 0.540)" in text
    assert "R² 0.390 (0.350 to 0.430), within 0.5 58.0% (55.0% to 61.0%)" in text
    assert "stays champion" not in text


def test_a_challenger():
    kept = PROMOTION | {"promoted": False, "champion": "5", "reason": "it is not better"}
    text = printed({"promotion": kept, **SCORES})
    assert "version 7 is challenger; version 5 stays champion: it is not better" in text


def test_a_challenger_without_a_champion():
    refused = PROMOTION | {"promoted": False, "champion": None, "reason": "it must not be served"}
    text = printed({"promotion": refused, **SCORES})
    assert "version 7 is challenger; there is no champion: it must not be served" in text


@pytest.mark.parametrize("drift", [[], [DRIFT]])
def test_traffic(drift):
    text = printed({"traffic_summary": TRAFFIC | {"drift": drift}})
    rows = [line.split() for line in text.splitlines()]
    assert ["1,200", "1,150", "50", "40", "4,321", "12", "ms", "46", "ms"] in rows
    assert "answered by version 7, 8; event time 2026-01-01 00:03 UTC to 2026-01-01 23:58" in text
    assert "failed: it is away" in text
    assert "30 wines are kept, and sent first by the next run" in text
    told = "sweeter (noise in residual_sugar) from 2026-01-01 06:00 to 2026-01-01 18:30 UTC" in text
    assert told == bool(drift)


def test_injected_drifts_are_told_in_the_order_of_time():
    earlier = DRIFT | {"name": "weaker", "onset": "2026-01-01T02:00:00+00:00"}
    text = printed({"traffic_summary": TRAFFIC | {"drift": [DRIFT, earlier]}})
    assert text.index("weaker") < text.index("sweeter")


def test_traffic_without_trouble():
    fine = {"refused": 0, "undelivered": 0, "error": ""}
    text = printed({"traffic_summary": TRAFFIC | fine})
    assert "failed:" not in text
    assert "kept" not in text
    refused = printed({"traffic_summary": TRAFFIC | {"undelivered": 0}})
    assert "failed: it is away" in refused
    assert "kept" not in refused


def test_ground_truth():
    labels = {"due": 650, "submitted": 600, "new": 590, "held_back": 7}
    assert (
        "600 labels handed in, 590 of them new; 7 are not due yet; "
        "50 could not be handed in, and wait for the next run"
    ) in printed({"label_delivery": labels})
    nothing = {"due": 0, "submitted": 0, "new": 0, "held_back": 0}
    assert "no label was held back, so there is none to hand in: traffic holds labels back " in (
        printed({"label_delivery": nothing})
    )
    sent = printed({"traffic_summary": TRAFFIC, "label_delivery": nothing})
    assert "0 labels handed in" in sent
    text = printed({"label_delivery": {"due": 5, "submitted": 5, "new": 5, "held_back": 0}})
    assert "5 labels handed in, 5 of them new" in text
    assert "new;" not in text


def test_what_retraining_came_to():
    audit = {"used": True, "labelled": 1200, "accepted": 1100, "left_out": {"known": 100, "a": 0}}
    decision = {
        "action": "retrain",
        "reason": "training again, because alcohol drifted",
        "version": "4",
        "promoted": True,
        "outcome": "it is better",
    }
    text = printed({"retraining": decision, "traffic_audit": audit})
    assert "1,100 of 1,200 labelled predictions usable" in text
    assert "left out by the rule known: 100" in text
    assert "rule a" not in text
    assert "retrain: training again, because alcohol drifted" in text
    assert "version 4 is champion: it is better" in text
    kept = decision | {"action": "keep", "reason": "nothing asks for it", "version": None}
    text = printed({"retraining": kept, "traffic_audit": audit | {"used": False}})
    assert "labelled traffic is not used (retraining.use_traffic)" in text
    assert "keep: nothing asks for it" in text
    assert "version" not in text


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"retraining": {"action": "keep", "version": None}}, "keep"),
        ({"retraining": {"version": "4", "promoted": True}}, "version 4 is champion"),
        ({"promotion": {"version": "4", "promoted": False}}, "version 4 is challenger"),
        ({"tuning_results": pd.DataFrame({"candidate": ["tree"]})}, "1 candidate tuned"),
        ({"traffic_summary": {"acknowledged": 1200}}, "1,200 wines answered"),
        ({"label_delivery": {"submitted": 5}}, "5 labels handed in"),
        ({}, ""),
    ],
)
def test_what_a_run_came_to_in_a_few_words(outputs, words):
    assert outcome(outputs) == words


def test_a_note_is_cut_after_a_line():
    judged = verdicts("2026-01-02", "column", **{f"column{k}": "ok" for k in range(600)})
    model = verdicts("2026-01-02", "segment", all="ok")
    note = write_note({"verdicts": judged, "model_verdicts": model}, {})
    assert 7_000 < len(note) < 8_000
    lines = note.splitlines()
    assert (lines[0], lines[-1]) == ("```text", "```")
    assert lines[-2].split()[:2] == [f"column{len(lines) - 6}", "ok"]


def test_each_timeline_has_its_newest_window():
    real = verdicts("2026-05-02", "column", pH="ok")
    simulated = verdicts("2026-01-02", "column", alcohol="drift")
    judged = pd.concat([real, simulated.assign(model_version="7 (simulation)")])
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    alert = Alert("drift", "7 (simulation)", "alcohol", "all", *[moment] * 4, None, 200, "it rose")
    model = verdicts("2026-05-02", "segment", all="decayed")
    text = printed({"verdicts": judged, "model_verdicts": model, "alerts": [alert.to_dict()]})
    first, second = (
        "Newest of 1 window, from 2026-05-02 00:00 UTC",
        "Newest of 1 window of the source simulation, from 2026-01-02 00:00 UTC",
    )
    assert text.index(first) < text.index(" pH ") < text.index("model (all)") < text.index(second)
    assert text.count("model (all)") == 1
    assert "alcohol (simulation)" in text


def test_subjects_of_which_the_same_is_said_are_one_row():
    judged = verdicts("2026-01-02", "column", type="ok", pH="unfinished", alcohol="unfinished")
    judged = judged.assign(reason=["so", "3 wines", "3 wines"])
    model = verdicts("2026-01-02", "segment", all="unfinished").assign(reason="no ground truth")
    rows = [
        line.split() for line in printed({"verdicts": judged, "model_verdicts": model}).splitlines()
    ]
    assert ["type", "ok", "so"] in rows
    assert ["pH", "and", "1", "more", "unfinished", "3", "wines"] in rows
    assert ["model", "(all)", "unfinished", "no", "ground", "truth"] in rows


def test_the_newest_windows_verdicts():
    columns = [
        verdicts("2026-01-01", "column", chlorides="drift"),
        verdicts("2026-01-02", "column", residual_sugar="drift", pH="ok"),
    ]
    model = [
        verdicts("2026-01-01", "segment", all="decayed"),
        verdicts("2026-01-02", "segment", all="no_labels", red="decayed"),
    ]
    text = printed({"verdicts": pd.concat(columns), "model_verdicts": pd.concat(model)})
    rows = [line.split() for line in text.splitlines()]
    assert "Newest of 2 windows, from 2026-01-02 00:00 UTC" in text
    assert ["residual", "sugar", "drift", "because", "of", "residual_sugar:", "so"] in rows
    assert ["pH", "ok", "because", "of", "pH:", "so"] in rows
    assert ["model", "(all)", "no_labels", "because", "of", "all:", "so"] in rows
    assert "chlorides" not in text
    assert "decayed" not in text


def test_open_and_new_alerts_are_told():
    judged = {
        "verdicts": verdicts("2026-01-02", "column", pH="ok"),
        "model_verdicts": verdicts("2026-01-02", "segment", all="ok"),
    }
    since = datetime(2026, 1, 1, tzinfo=UTC)
    alert = Alert(
        "drift", "7", "residual_sugar", "all", since, since, since, since, None, 200, "it rose"
    )
    text = printed(judged | {"alerts": [replace(alert, new=True).to_dict()]})
    assert "1 open alert, 1 new in all" in text
    assert ["2026-01-01", "00:00", "residual", "sugar", "drift", "it", "rose"] in [
        line.split() for line in text.splitlines()
    ]
    over = replace(alert, resolved=datetime(2026, 1, 1, 6, tzinfo=UTC))
    assert "it rose" not in printed(judged | {"alerts": [over.to_dict()]})
    news = printed(judged | {"alerts": [replace(over, new=True).to_dict()]})
    assert "it rose; resolved 2026-01-01 06:00" in news
    many = printed(judged | {"alerts": [alert.to_dict()] * (MOST_ALERTS + 2)})
    assert f"{MOST_ALERTS + 2} open alerts, 0 new in all, the latest 10" in many
    assert many.count("it rose") == MOST_ALERTS


def test_a_challenger_in_shadow():
    judged = {
        "verdicts": verdicts("2026-01-02", "column", pH="ok"),
        "model_verdicts": verdicts("2026-01-02", "segment", all="ok"),
    }
    assert "shadow" not in printed(judged | {"shadow_comparisons": []})
    found = asdict(ShadowComparison("7", "8", 1412, 1300, 0.512, 0.498, 0.014, -0.002, 0.03))
    text = " ".join(printed(judged | {"shadow_comparisons": [found]}).split())
    assert (
        "Version 8 in shadow of version 7, on the same 1,412 labelled wines: MAE 0.498 against "
        "0.512, better by +0.014 (95 %: -0.002 to +0.030)"
    ) in text
    few = found | {"labels": 12, "wines": 12, "gain_low": None, "gain_high": None}
    text = printed(judged | {"shadow_comparisons": [few]})
    assert "better by +0.014" in text
    assert "95 %" not in text


def test_an_accepted_period_is_named():
    judged = {
        "verdicts": verdicts("2026-01-02", "column", pH="ok"),
        "model_verdicts": verdicts("2026-01-02", "segment", all="ok"),
    }
    assert "accepted" not in printed(judged | {"accepted_periods": []})
    made = Reference.from_wines(draw_wines(300, 1).assign(prediction=6.0))
    start = datetime(2026, 1, 5, tzinfo=UTC)
    period = AcceptedPeriod(
        4, "3", start, start + timedelta(days=7), "registered", made, 250, "ann", "new vintage",
        datetime(2026, 2, 1, tzinfo=UTC),
    )  # fmt: skip
    text = " ".join(printed(judged | {"accepted_periods": [period.to_dict()]}).split())
    assert (
        "Reference is an accepted period: version 3, 2026-01-05 to 2026-01-11 UTC: 300 wines, "
        "errors of 250 labelled wines; accepted by ann on 2026-02-01: new vintage"
    ) in text


def test_an_alarming_verdict_is_coloured():
    one = {
        "verdicts": verdicts("2026-01-02", "column", chlorides="drift", pH="ok"),
        "model_verdicts": verdicts("2026-01-02", "segment", all="ok"),
    }
    text = printed(one, colour=True)
    assert "\x1b[1;31mdrift" in text
    assert "\x1b[32mok" in text


def test_where_to_look_further():
    text = printed({}, {"drift report": "/data/[old]/drift.html", "tracked runs": "./just mlflow"})
    rows = [line.split() for line in text.splitlines()]
    assert ["Look", "further"] in rows
    assert ["drift", "report", "/data/[old]/drift.html"] in rows
    assert ["tracked", "runs", "./just", "mlflow"] in rows


def test_a_path_or_command_stays_on_one_line():
    command = "./just evidently '/a folder/" + "deep/" * 40 + "workspace'"
    lines = printed({}, {"reports": command, "page": "/x"}).splitlines()
    assert lines[-2:] == [f"  reports  {command}", "  page     /x"]


def test_a_section_needs_all_of_its_outputs():
    assert "Champion" not in printed({"promotion": PROMOTION})
    assert set(SECTIONS) == {
        *("Wines", "Tuning", "Candidates", "As published", "Champion"),
        *("Traffic", "Ground truth", "Monitoring", "Retraining"),
    }


def test_brackets_are_no_markup():
    reason = {"reason": "all [red] wines"}
    one = {
        "verdicts": verdicts("2026-01-02", "column", chlorides="drift").assign(**reason),
        "model_verdicts": verdicts("2026-01-02", "segment", all="ok"),
    }
    assert "all [red] wines" in printed(one)
