"""Nodes of the tuning pipeline: training wines in, the best settings of each candidate out."""

from dataclasses import asdict
from typing import Any

import pandas as pd

from wine_quality.modelling.candidates import Candidate
from wine_quality.modelling.evaluation import assign_folds
from wine_quality.modelling.tuning import Budget, SearchSettings, Study
from wine_quality.pipelines.training.parameters import ComparisonParameters

Json = dict[str, Any]


def tune_candidate(
    training_wines: pd.DataFrame,
    study: Study,
    candidate: Candidate,
    comparison: ComparisonParameters,
    search: SearchSettings,
    budget: Budget,
) -> Json:
    """Search the settings of one candidate, or go on with the search where it was left.

    The folds are not those of the comparison, so that a candidate is not compared on the folds that
    chose its settings.

    Returns:
        The values of a `BestSettings`.
    """
    folds = assign_folds(training_wines, search.folds, 1, search.seed)
    found = study.tune(candidate, training_wines, folds, comparison.metric, search, budget)
    return asdict(found)


def summarise_tuning(**best_settings: Json) -> pd.DataFrame:
    """Tabulate what tuning has come to.

    Returns:
        One row a candidate: `candidate`, `metric`, `finished` and `pruned` trials, its value with
        the settings as `configured` and with the `best`, and these `settings` in words.
    """
    return pd.DataFrame(
        [
            {
                "candidate": name,
                "metric": found["metric"],
                "finished": found["finished"],
                "pruned": found["pruned"],
                "configured": found["configured_value"],
                "best": found["value"],
                "settings": _in_words(found["settings"])
                if found["value"] < found["configured_value"]
                else "as configured",
            }
            for name, found in best_settings.items()
        ]
    )


def _in_words(settings: Json) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in settings.items()
    )
