import re
from dataclasses import replace

import pandas as pd
import pytest
from pydantic import ValidationError

from wine_quality.modelling.metrics import METRICS, score_slices
from wine_quality.modelling.model_card import (
    METRIC_LABELS,
    CardFacts,
    CardTexts,
    errors_by_quality,
    leakage_statement,
    write_card,
)
from wine_quality.traffic.synthetic import draw_wines

TEXTS = CardTexts(
    data="Wines <of> the & tests.",
    licence="CC BY 4.0",
    citation="Nobody, 2009.",
    intended_use="Tests.",
    not_for="wine lists",
    limits="tasters differ",
    predicted="wine quality",
)
CLEAN = {
    "training_rows": 5000,
    "held_out_rows": 1300,
    "held_out_rows_in_training": 0,
    "distinct_complete_rows": 1000,
    "distinct_complete_rows_in_training": 0,
}
LEAKING = CLEAN | {"held_out_rows_in_training": 1290, "distinct_complete_rows_in_training": 995}


@pytest.fixture
def facts():
    reference = draw_wines(300, 4).assign(prediction=lambda wines: wines["quality"] + 0.25)
    metrics = score_slices(reference)
    return CardFacts(
        candidate="extra_trees",
        settings={
            "estimator": "sklearn.ensemble.ExtraTreesRegressor",
            "settings": {"n_estimators": 77},
            "scale": False,
            "early_stopping": None,
        },
        tuned="as configured",
        rounds=[],
        metrics=metrics,
        intervals={
            name: {
                metric: {"low": value - 0.01, "high": value + 0.01} for metric, value in m.items()
            }
            for name, m in metrics.items()
        },
        comparison=pd.DataFrame(
            {
                "candidate": ["extra_trees", "k_neighbors"],
                "rank": [1, 2],
                "rmse": [0.65, 0.7],
                "behind": [0, 0.05],
                "behind_low": [0, -0.01],
                "behind_high": [0, 0.11],
            }
        ),
        metric="rmse",
        by_quality=errors_by_quality(reference),
        importance=pd.DataFrame({"input": ["free_sulfur_dioxide"], "increase": [0.0345]}),
        wine_audit={
            "read": 6500,
            "accepted": 6497,
            "rejected": 3,
            "by_type": {"red": 1599, "white": 4898},
            "by_quality": {"5": 3000, "6": 3497},
            "exact_duplicates": 1177,
            "missing": {"pH": 9},
        },
        split_audit=CLEAN,
        training_wines="a" * 16,
        held_out_wines="b" * 16,
        seed=2009,
    )


def test_both_forms_say_the_same(facts):
    markdown, page = write_card(facts, TEXTS)
    headings = re.findall(r"^## (.+)$", markdown, re.M)
    assert headings == re.findall(r"<h2>(.+?)</h2>", page)
    assert {"Intended use", "Leakage", "Limits", "Licence and citation"} <= set(headings)
    for text in ("CC BY 4.0", "Nobody, 2009.", "Not for: wine lists", "n_estimators 77", "a" * 16):
        assert text in markdown
        assert text in page
    assert "Wines <of> the & tests." in markdown
    assert "Wines &lt;of&gt; the &amp; tests." in page


def test_every_metric_stands_with_its_interval_for_every_slice(facts):
    markdown, _ = write_card(facts, TEXTS)
    assert set(METRIC_LABELS) == set(METRICS)
    for metric, label in METRIC_LABELS.items():
        (row,) = re.findall(rf"^\| {re.escape(label)} \|(.+)\|$", markdown, re.M)
        told = [cell.strip() for cell in row.split("|")]
        assert told == [
            f"{m[metric]:.3f} ({m[metric] - 0.01:.3f} to {m[metric] + 0.01:.3f})"
            for m in facts.metrics.values()
        ]


def test_numbers_of_the_data_and_the_comparison(facts):
    markdown, _ = write_card(facts, TEXTS)
    assert "6,500 wines read, 6,497 accepted (1,599 red, 4,898 white), 3 rejected" in markdown
    assert "| k neighbors | 0.700 | +0.050 (-0.010 to +0.110) |" in markdown
    assert "| free sulfur dioxide | +0.0345 |" in markdown


def test_tables_are_tables(facts):
    markdown, page = write_card(facts, TEXTS)
    for block in re.findall(r"(?:^\|.*\n)+", markdown, re.M):
        widths = {line.count(" | ") for line in block.splitlines()}
        assert len(widths) == 1
    assert page.count("<table>") == page.count("</table>") == 5


def test_early_stopping_is_told(facts):
    settings = dict(facts.settings) | {"early_stopping": {"rounds": 30, "held_back_share": 0.15}}
    markdown, _ = write_card(replace(facts, settings=settings, rounds=[120, 90]), TEXTS)
    assert "\n* Early stopping after 30 rounds without a lower error on a held-back 15%" in markdown
    assert "90 to 120 rounds in the folds" in markdown


def test_rare_qualities_are_a_limit(facts):
    rare = facts.by_quality[(facts.by_quality["type"] == "all") & (facts.by_quality["wines"] < 20)]
    markdown, _ = write_card(facts, TEXTS)
    assert not rare.empty
    assert f"have quality {', '.join(rare['quality'].astype(str))}" in markdown


def test_a_clean_split_is_said_to_be_clean():
    text = leakage_statement(CLEAN)
    assert text.startswith("None of the 1,300 held-out wines")
    # not every candidate scales its inputs
    assert "scaling" not in text


def test_a_leaking_split_is_said_to_leak(facts):
    text = leakage_statement(LEAKING)
    assert text.startswith("LEAKAGE: 1,290 of the 1,300 held-out wines")
    assert "995 of 1,000 distinct complete" in text
    assert text in write_card(replace(facts, split_audit=LEAKING), TEXTS)[0]


def test_errors_by_quality():
    reference = pd.DataFrame(
        {
            "type": ["red", "white", "white"],
            "quality": [5, 5, 7],
            "prediction": [5.5, 4.5, 6.0],
        }
    )
    table = errors_by_quality(reference).set_index(["quality", "type"])
    assert table.loc[(5, "all")].tolist() == [2, 0.5, 0]
    assert table.loc[(5, "red")].tolist() == [1, 0.5, 0.5]
    assert table.loc[(7, "white")].tolist() == [1, 1, -1]
    assert (7, "red") not in table.index


def test_a_misspelt_text_is_named():
    with pytest.raises(ValidationError, match="license"):
        CardTexts.model_validate(TEXTS.model_dump() | {"license": "x"})
