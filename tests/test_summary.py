from io import StringIO

import pandas as pd
import pytest
from rich.console import Console

from wine_quality.summary import SECTIONS, SUMMARISED, print_summary

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
    }
)
HELD_OUT_METRICS = {"all": {"rmse": 0.66, "mae": 0.51, "r2": 0.39, "accuracy_within_0.5": 0.58}}
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
    "failed": 50,
    "labelled": 600,
    "model_versions": ["7", "8"],
    "first_event": "2026-01-01 00:03 UTC",
    "last_event": "2026-01-01 23:58 UTC",
    "rows_per_second": 4321.4,
    "drift": "",
}


def verdicts(start: str, subject: str, **verdict_by_subject: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "window_start": pd.Timestamp(start, tz="UTC"),
            "model_version": "7",
            subject: list(verdict_by_subject),
            "verdict": list(verdict_by_subject.values()),
            "reason": [f"{name}: because of {name}: so" for name in verdict_by_subject],
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
        "promotion",
        "held_out_metrics",
        "traffic_summary",
        "verdicts",
        "model_verdicts",
    } == SUMMARISED


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
    assert "scores below are those of wines already seen" in text


def test_candidates():
    lines = printed({"comparison": COMPARISON}).splitlines()
    header = next(line for line in lines if "candidate" in line and "RMSE" in line)
    assert header.split() == ["candidate", "RMSE", "±", "fold", "sd", "MAE", "R²", "within", "0.5"]
    assert lines[lines.index(header) + 1].split() == (
        ["1", "extra", "trees", "regressor", "0.651", "±", "0.012", "0.502", "0.400", "59.1%"]
    )
    assert lines[lines.index(header) + 2].split()[:3] == ["2", "decision", "tree"]


def test_candidates_by_another_metric():
    by_mae = COMPARISON.rename(columns={"rmse_std": "mae_std"})
    text = printed({"comparison": by_mae})
    assert "MAE ± fold sd" in text
    assert "0.502 ± 0.012" in text


def test_a_new_champion():
    text = printed({"promotion": PROMOTION, "held_out_metrics": HELD_OUT_METRICS})
    assert "wine-quality version 7 is champion: it is better: gain +0.02" in text
    assert "RMSE 0.660, MAE 0.510, R² 0.390, 58.0% within 0.5" in text
    assert "stays champion" not in text


def test_a_challenger():
    kept = PROMOTION | {"promoted": False, "champion": "5", "reason": "it is not better"}
    text = printed({"promotion": kept, "held_out_metrics": HELD_OUT_METRICS})
    assert "version 7 is challenger; version 5 stays champion: it is not better" in text


@pytest.mark.parametrize("drift", ["", "residual_sugar by uniform_noise"])
def test_traffic(drift):
    text = printed({"traffic_summary": TRAFFIC | {"drift": drift}})
    assert "1,200 wines sent to version 7, 8, 1,150 acknowledged, 50 failed" in text
    assert "ground truth for 600" in text
    assert "2026-01-01 00:03 UTC to 2026-01-01 23:58 UTC, 4,321 wines a second" in text
    assert ("injected drift: residual_sugar by uniform_noise" in text) == bool(drift)


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
    assert ["model", "v7", "no_labels", "because", "of", "all:", "so"] in rows
    assert "chlorides" not in text
    assert "decayed" not in text


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


def test_a_section_needs_all_of_its_outputs():
    assert "Champion" not in printed({"promotion": PROMOTION})
    assert set(SECTIONS) == {"Wines", "Candidates", "Champion", "Traffic", "Monitoring"}


def test_brackets_are_no_markup():
    reason = {"reason": "reason: all [red] wines"}
    one = {
        "verdicts": verdicts("2026-01-02", "column", chlorides="drift").assign(**reason),
        "model_verdicts": verdicts("2026-01-02", "segment", all="ok"),
    }
    assert "all [red] wines" in printed(one)
