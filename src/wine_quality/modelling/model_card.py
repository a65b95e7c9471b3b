"""The model card: what a version is, what it was judged on, and what it is not for.

After Mitchell et al., Model Cards for Model Reporting, FAT* 2019. Written as Markdown for
people and repositories, from which the tracking server's HTML is rendered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import Field

from wine_quality.pages import render
from wine_quality.parameters import Parameters
from wine_quality.wines import (
    INPUTS,
    PREDICTION,
    QUALITY,
    QUALITY_BOUNDS,
    QUALITY_STEP,
    QUALITY_UNIT,
    TYPE,
    quality_classes,
)

METRIC_LABELS = {
    "rmse": f"RMSE ({QUALITY_UNIT})",
    "mae": f"MAE ({QUALITY_UNIT})",
    "r2": "R²",
    "accuracy_within_0.5": f"within {0.5 * QUALITY_STEP:g} {QUALITY_UNIT}",
    "accuracy_within_1.0": f"within {1.0 * QUALITY_STEP:g} {QUALITY_UNIT}",
    "weighted_kappa": "quadratic weighted kappa",
}


RARE = 20
"""Fewer wines than this are no basis for a statement on their quality."""


class CardTexts(Parameters):
    """What only a person can say of a model."""

    data: str = Field(description="What the wines are and where they are from")
    licence: str = Field(description="Under which licence the data may be used")
    citation: str = Field(description="How to cite the data")
    intended_use: str = Field(description="What the model is for")
    not_for: str = Field(description="What it is not for")
    predicted: str = Field(description="What is predicted, for the title")
    limits: str = Field(description="What keeps any model of these data from being exact")


@dataclass(frozen=True)
class CardFacts:
    """What the run knows of the model.

    Attributes:
        candidate: Name of the winning candidate.
        settings: What it was built with: estimator, settings and so on.
        tuned: Where its settings are from, in words.
        rounds: Rounds that early stopping chose in the folds; none without it.
        metrics: Held-out metrics by slice.
        intervals: Their 95 % intervals by slice and metric, each `low` and `high`.
        comparison: The comparison's table.
        metric: The metric that decided the comparison.
        by_quality: Errors by quality, as `errors_by_quality` gives them.
        importance: Inputs by importance, as `permutation_importance` gives them.
        wine_audit: The audit of the wines.
        split_audit: The audit of the split.
        training_wines: Fingerprint of the training wines.
        held_out_wines: Fingerprint of the held-out wines.
        seed: Seed of the training.
    """

    candidate: str
    settings: Mapping[str, Any]
    tuned: str
    rounds: Sequence[int]
    metrics: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, Mapping[str, float]]]
    comparison: pd.DataFrame
    metric: str
    by_quality: pd.DataFrame
    importance: pd.DataFrame
    wine_audit: Mapping[str, Any]
    split_audit: Mapping[str, int]
    training_wines: str
    held_out_wines: str
    seed: int


def write_card(facts: CardFacts, texts: CardTexts) -> tuple[str, str]:
    """Write the model card.

    Returns:
        Markdown and HTML.
    """
    from markdown_it import MarkdownIt

    by_quality = facts.by_quality[facts.by_quality[TYPE] == "all"]
    settings = ", ".join(f"{key} {value}" for key, value in facts.settings["settings"].items())
    low, high = QUALITY_BOUNDS
    markdown = render(
        "modelling/model_card.md",
        facts=facts,
        texts=texts,
        settings=settings or "the defaults",
        leakage=leakage_statement(facts.split_audit),
        labels=METRIC_LABELS,
        by_quality=by_quality.to_dict(orient="records"),
        rare=by_quality.loc[by_quality["wines"] < RARE, QUALITY].tolist(),
        importance=facts.importance.to_dict(orient="records"),
        comparison=facts.comparison.to_dict(orient="records"),
        n_inputs=len(INPUTS),
        TYPE=TYPE,
        QUALITY=QUALITY,
        RARE=RARE,
        low=low,
        high=high,
    )
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    # a phone scrolls what is too wide, with the keyboard too
    body = body.replace("<table>", '<div class="wide" tabindex="0"><table>')
    body = body.replace("</table>", "</table></div>")
    return markdown, render("modelling/model_card.html", body=body)


def leakage_statement(split_audit: Mapping[str, int]) -> str:
    """Say in words whether the held-out scores are those of wines that the model has not seen."""
    rows, seen = split_audit["held_out_rows"], split_audit["held_out_rows_in_training"]
    if not seen:
        return (
            f"None of the {rows:,} held-out wines has the same inputs as a training wine: "
            "equal wines were kept on one side of the split, and on one side of every fold. "
            "Preparation was fitted on training wines alone, inside each fold."
        )
    return (
        f"LEAKAGE: {seen:,} of the {rows:,} held-out wines stand in the training wines as well "
        f"({split_audit['distinct_complete_rows_in_training']:,} of "
        f"{split_audit['distinct_complete_rows']:,} distinct complete ones). The held-out scores "
        "below are those of wines already seen, and say little of new ones; the cross-validated "
        "scores of the comparison keep equal wines together and are honest."
    )


def errors_by_quality(reference: pd.DataFrame) -> pd.DataFrame:
    """Tabulate the errors for each quality that the tasters gave.

    Args:
        reference: Held-out wines with `type`, `quality` and `prediction`.

    Returns:
        One row a quality and type (and type `all`): `quality`, `type`, `wines`, mean absolute error
        `mae` and mean error `bias` (prediction less quality), in points.
    """
    error = reference[PREDICTION] - reference[QUALITY]
    classes = quality_classes(reference[QUALITY])
    errors = pd.DataFrame({QUALITY: classes, TYPE: reference[TYPE], "e": error})
    both = pd.concat([errors.assign(**{TYPE: "all"}), errors])
    table = both.groupby([QUALITY, TYPE], sort=True)["e"].agg(
        wines="count", mae=lambda e: e.abs().mean(), bias="mean"
    )
    return table.reset_index()
