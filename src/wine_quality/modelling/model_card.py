"""The model card: what a version is, what it was judged on, and what it is not for.

After Mitchell et al., Model Cards for Model Reporting, FAT* 2019. One structure, two forms:
Markdown for people and repositories, HTML for the tracking server.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import Field

from wine_quality.parameters import Parameters
from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
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


@dataclass(frozen=True)
class Table:
    """A table of texts."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


Block = str | Table | Bullets
Sections = Sequence[tuple[str, Sequence[Block]]]


def write_card(facts: CardFacts, texts: CardTexts) -> tuple[str, str]:
    """Write the model card.

    Returns:
        Markdown and HTML.
    """
    title = f"Model card: {texts.predicted} by {_words(facts.candidate)}"
    sections: Sections = [
        ("Model", _model(facts)),
        ("Intended use", [texts.intended_use, f"Not for: {texts.not_for}"]),
        ("Data", _data(facts, texts)),
        ("Leakage", [leakage_statement(facts.split_audit)]),
        ("Scores on the held-out wines", _scores(facts)),
        (f"Errors by {QUALITY}", _errors(facts)),
        ("What the model looks at", _importance(facts)),
        ("How it compares", _comparison(facts)),
        ("Limits", [_limits(facts, texts)]),
        ("Licence and citation", [f"Data: {texts.licence}", texts.citation]),
    ]
    return _markdown(title, sections), _html(title, sections)


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


def _model(facts: CardFacts) -> list[Block]:
    settings = ", ".join(f"{key} {value}" for key, value in facts.settings["settings"].items())
    steps = "mean imputation and " + ("scaling, " if facts.settings["scale"] else "")
    early = facts.settings["early_stopping"]
    stopping = (
        (
            f"Early stopping after {early['rounds']} rounds without a lower error on a held-back "
            f"{early['held_back_share']:.0%} of the training wines: "
            f"{min(facts.rounds)} to {max(facts.rounds)} rounds in the folds; n_estimators is the "
            "most that it may choose",
        )
        if early and facts.rounds
        else ()
    )
    low, high = QUALITY_BOUNDS
    return [
        f"A scikit-learn pipeline of {steps}one-hot encoding of the type and "
        f"{facts.settings['estimator']}: {len(INPUTS)} inputs ({TYPE} and "
        f"{len(MEASUREMENT_NAMES)} measurements, any of which may be missing) to a predicted "
        f"{QUALITY} from {low} to {high}.",
        Bullets(
            (
                f"Settings: {settings or 'the defaults'}",
                *stopping,
                f"Where they are from: {facts.tuned}",
                f"Training wines {facts.training_wines}, held-out wines {facts.held_out_wines}, "
                f"seed {facts.seed}",
            )
        ),
    ]


def _data(facts: CardFacts, texts: CardTexts) -> list[Block]:
    audit, split = facts.wine_audit, facts.split_audit
    types = ", ".join(f"{n:,} {name}" for name, n in audit["by_type"].items())
    return [
        texts.data,
        Bullets(
            (
                f"{audit['read']:,} wines read, {audit['accepted']:,} accepted ({types}), "
                f"{audit['rejected']:,} rejected",
                f"{audit['exact_duplicates']:,} exact duplicates, "
                f"{sum(audit['missing'].values()):,} missing values",
                f"{split['training_rows']:,} for training, {split['held_out_rows']:,} held out",
            )
        ),
        Table(
            (QUALITY, "wines"),
            tuple((quality, f"{n:,}") for quality, n in audit["by_quality"].items()),
        ),
    ]


def _scores(facts: CardFacts) -> list[Block]:
    slices = list(facts.metrics)
    rows = tuple(
        (label, *(_with_interval(facts, name, metric) for name in slices))
        for metric, label in METRIC_LABELS.items()
    )
    return [
        "In brackets the 95 % interval: groups of equal wines resampled, percentile bootstrap.",
        Table(("", *slices), rows),
    ]


def _with_interval(facts: CardFacts, name: str, metric: str) -> str:
    bounds = facts.intervals[name][metric]
    return f"{facts.metrics[name][metric]:.3f} ({bounds['low']:.3f} to {bounds['high']:.3f})"


def _errors(facts: CardFacts) -> list[Block]:
    rows = facts.by_quality[facts.by_quality[TYPE] == "all"].to_dict(orient="records")
    return [
        "Bias is prediction less quality: rare, extreme qualities are drawn towards the middle.",
        Table(
            (QUALITY, "wines", "MAE", "bias"),
            tuple(
                (str(r[QUALITY]), f"{r['wines']:,}", f"{r['mae']:.3f}", f"{r['bias']:+.3f}")
                for r in rows
            ),
        ),
    ]


def _importance(facts: CardFacts) -> list[Block]:
    rows = facts.importance.to_dict(orient="records")
    return [
        "Rise of the MAE when an input's values are dealt anew among the held-out wines. Inputs "
        "that tell the same share their importance: each alone looks less important than they "
        "are together.",
        Table(
            ("input", "rise of MAE"),
            tuple((_words(r["input"]), f"{r['increase']:+.4f}") for r in rows),
        ),
    ]


def _comparison(facts: CardFacts) -> list[Block]:
    metric = facts.metric
    rows = facts.comparison.to_dict(orient="records")
    return [
        f"{metric.upper()} by cross-validation on the training wines, equal wines in one fold; "
        "difference to the best on the same folds with its 95 % interval (Nadeau and Bengio's "
        "corrected t). Where the interval holds 0, the folds do not tell the two apart.",
        Table(
            ("candidate", metric.upper(), "difference to the best"),
            tuple(
                (
                    _words(r["candidate"]),
                    f"{r[metric]:.3f}",
                    ""
                    if r["rank"] == 1
                    else f"{r['behind']:+.3f} ({r['behind_low']:+.3f} to {r['behind_high']:+.3f})",
                )
                for r in rows
            ),
        ),
    ]


def _limits(facts: CardFacts, texts: CardTexts) -> Bullets:
    common = facts.by_quality[facts.by_quality[TYPE] == "all"]
    rare = common.loc[common["wines"] < RARE, QUALITY].astype(str).tolist()
    sentences = [
        texts.limits,
        "Wines unlike those described under Data are untested.",
    ]
    if rare:
        sentences.append(
            f"Fewer than {RARE} held-out wines have quality {', '.join(rare)}: the scores say "
            "little about these."
        )
    return Bullets(tuple(sentences))


RARE = 20
"""Fewer wines than this are no basis for a statement on their quality."""


def _words(name: str) -> str:
    return name.replace("_", " ")


def _markdown(title: str, sections: Sections) -> str:
    parts = [f"# {title}"]
    for heading, blocks in sections:
        parts += [f"## {heading}", *map(_block_markdown, blocks)]
    return "\n\n".join(parts) + "\n"


def _block_markdown(block: Block) -> str:
    if isinstance(block, str):
        return block
    if isinstance(block, Bullets):
        return "\n".join(f"* {item}" for item in block.items)
    rule = ("---", *("--:" for _ in block.header[1:]))
    lines = [block.header, rule, *block.rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)


def _html(title: str, sections: Sections) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("wine_quality.modelling", "")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return pages.get_template("model_card.html").render(title=title, sections=sections)
