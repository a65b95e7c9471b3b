"""Labelled traffic as training data: rules that keep garbage out, each with its count."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from wine_quality.drift.log_engines import EVENT_TIME
from wine_quality.drift.sources import MODEL_VERSION, SOURCE, timeline_of, version_of
from wine_quality.parameters import Parameters
from wine_quality.traffic.sender import SIMULATION
from wine_quality.wines import (
    MEASUREMENTS,
    PREDICTION,
    QUALITY,
    QUALITY_BOUNDS,
    QUALITY_DTYPE,
    QUALITY_IS_WHOLE,
    QUALITY_STEP,
    TYPE,
    WINE_TYPES,
    wine_hashes,
)

RULE = "rule"
"""Column of the quarantine: the first rule that a row breaks."""
RULES = {
    "source": "its source is left out",
    "simulated": "it is simulated, and retraining.traffic.sources does not name its source",
    "impossible": "its label or an input cannot be",
    "data_quality": "monitoring found bad data in its window, or in one beside it",
    "source_error": "labels of its source lie far from what others' labels lead to expect",
    "contradictory": "labels of this wine lie too far apart",
    "known": "the raw files hold this wine",
    "repeated": "a newer label of this wine counts",
    "source_share": "its source has its share of the wines",
}
"""The rules in their order, with why a row that breaks it is left out."""


FEWEST_OF_SOURCE = 30
"""Labels of a source in a week, and of all others, below which the two are not compared."""
SURE = 4.0
"""Standard errors by which a source's mean loss has to exceed the others': chance does so once in
30,000 weeks."""
WEEK = pd.Timedelta("7D")


class TrafficSettings(Parameters):
    """Which labelled traffic may train a model."""

    most_labels: int = Field(ge=1, description="Newest labelled predictions that are read")
    sources: tuple[str, ...] | None = Field(
        description="Sources that may train; null: all but simulations, which train only if named"
    )
    left_out: tuple[str, ...] = Field(description="Sources that may not, whatever else is said")
    most_apart: float = Field(
        ge=0, description="Points of quality that labels of one wine may lie apart"
    )
    most_source_share: float = Field(
        gt=0, le=1, description="Share of all wines, raw ones too, that one source may have"
    )
    most_source_error: float | None = Field(
        gt=1,
        description="Mean squared error of the predictions by the labels of one source in a week, "
        "as a multiple of that by the labels of all others; null: any",
    )


def sort_traffic(
    traffic: pd.DataFrame,
    known: pd.DataFrame,
    faulty_windows: pd.DataFrame,
    settings: TrafficSettings,
) -> pd.DataFrame:
    """Find the rule that keeps each labelled prediction from being training data.

    Args:
        traffic: n rows as `LogReader.labelled` gives them, in the order of event time.
        known: The raw wines, with the twelve inputs.
        faulty_windows: Windows with bad data, of a column or as a whole: `window_start`,
            `window_end` and `model_version`, which names a traffic as `drift.sources` does.
        settings: What is allowed.

    Returns:
        The rows with `rule`, a key of `RULES`; empty where the row is accepted.
    """
    rule = pd.Series("", index=traffic.index, dtype=object)

    def refuse(name: str, rows: "pd.Series | NDArray[np.bool_]") -> None:
        rule[rows & (rule == "")] = name

    source = traffic[SOURCE]
    refuse("source", source.isin(settings.left_out))
    if settings.sources is None:
        refuse("simulated", source == SIMULATION)
    else:
        refuse("simulated", (source == SIMULATION) & (SIMULATION not in settings.sources))
        refuse("source", ~source.isin(settings.sources))
    refuse("impossible", _impossible(traffic))
    refuse("data_quality", _in_windows(traffic, faulty_windows))
    if settings.most_source_error is not None:
        far = _far_from_others(traffic[rule == ""], settings.most_source_error)
        refuse("source_error", far.reindex(rule.index, fill_value=False))
    wine = pd.Series(wine_hashes(traffic), index=traffic.index)
    sound = rule == ""
    labels = traffic.loc[sound, QUALITY].groupby(wine[sound])
    apart = labels.transform("max") - labels.transform("min")
    refuse("contradictory", apart.reindex(rule.index, fill_value=0) > settings.most_apart)
    refuse("known", np.isin(wine, wine_hashes(known)))
    left = rule == ""
    refuse("repeated", wine[left].duplicated(keep="last").reindex(rule.index, fill_value=False))
    most = largest_share(
        source[rule == ""].value_counts().to_numpy("int64"), len(known), settings.most_source_share
    )
    # the newest rows of a source come last, and stay
    place = source[rule == ""].iloc[::-1].groupby(source).cumcount()
    refuse("source_share", place.reindex(rule.index, fill_value=0) >= most)
    return traffic.assign(**{RULE: rule.astype("str")})


def largest_share(rows: NDArray[np.integer[Any]], others: int, share: float) -> int:
    """Find how many rows each source may keep so that none has more than a share of all.

    Args:
        rows: Rows of each source.
        others: Rows of no source.
        share: The largest share.

    Returns:
        The largest number m with m ≤ share · (others + Σ min(rows, m)); at least one row is kept
        where there are others.
    """
    low, high = 0, int(rows.max(initial=0))
    while low < high:
        middle = (low + high + 1) // 2
        fits = middle <= share * (others + int(np.minimum(rows, middle).sum()))
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def audit_traffic(sorted_traffic: pd.DataFrame, is_used: bool) -> dict[str, Any]:
    """Count what `sort_traffic` has found.

    Returns:
        `labelled` = `accepted` + the sum of `left_out`, which counts every rule; `by_source` counts
        the accepted rows; and whether the traffic is `used` at all.
    """
    rules = sorted_traffic[RULE].value_counts()
    accepted = sorted_traffic[sorted_traffic[RULE] == ""]
    by_source = accepted[SOURCE].value_counts().sort_index()
    return {
        "used": is_used,
        "labelled": len(sorted_traffic),
        "accepted": len(accepted),
        "left_out": {name: int(rules.get(name, 0)) for name in RULES},
        "by_source": {str(name): int(n) for name, n in by_source.items()},
    }


def _impossible(traffic: pd.DataFrame) -> pd.Series:
    quality = traffic[QUALITY]
    bad = ~quality.between(*QUALITY_BOUNDS) | ~traffic[TYPE].isin(WINE_TYPES)
    if QUALITY_IS_WHOLE:
        bad |= quality % QUALITY_STEP != 0
    for m in MEASUREMENTS:
        bad |= ~traffic[m.name].between(*m.possible) & traffic[m.name].notna()
    return bad | traffic[[m.name for m in MEASUREMENTS]].isna().all(axis=1)


def _in_windows(traffic: pd.DataFrame, windows: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which rows lie in faulty windows, or in those beside them.

    A fault seldom begins or ends with a window, and a part of one need not show.
    """
    inside = np.zeros(len(traffic), dtype=bool)
    columns = ["window_start", "window_end", "model_version"]
    for start, end, name in windows[columns].drop_duplicates().itertuples(index=False):
        reach = end - start
        rows = (traffic[EVENT_TIME] >= start - reach) & (traffic[EVENT_TIME] < end + reach)
        rows &= traffic[MODEL_VERSION] == version_of(name)
        if source := timeline_of(name):
            rows &= traffic[SOURCE] == source
        inside |= rows.to_numpy()
    return inside


def _far_from_others(traffic: pd.DataFrame, most: float) -> pd.Series:
    """Tell which rows come from a source whose labels of that week agree with nobody else's.

    The weeks beside it count for it, as windows do beside a faulty one; in the newest there may be
    too few labels to tell.

    What the champion said is the common measure: where tasters change it errs by all sources'
    labels, where one source mixes up its labels by those alone.
    """
    rows = pd.DataFrame(
        {
            "source": traffic[SOURCE],
            "week": traffic[EVENT_TIME].dt.floor(WEEK),
            "n": 1.0,
            "sum": (traffic[PREDICTION] - traffic[QUALITY]) ** 2,
        }
    )
    rows["squares"] = rows["sum"] ** 2
    own = rows.groupby(["week", "source"])[["n", "sum", "squares"]].sum()
    others = own.groupby("week").sum().reindex(own.index, level="week") - own
    enough = (own["n"] >= FEWEST_OF_SOURCE) & (others["n"] >= FEWEST_OF_SOURCE)
    mean, usual = own["sum"] / own["n"], others["sum"] / others["n"]
    variance = (own["squares"] / own["n"] - mean**2) / own["n"]
    variance += (others["squares"] / others["n"] - usual**2) / others["n"]
    far = enough & (mean > most * usual) & (mean - usual > SURE * np.sqrt(variance))
    wrong = far[far].index.to_frame(index=False)
    weeks = pd.concat([wrong.assign(week=wrong["week"] + k * WEEK) for k in (-1, 0, 1)])
    keys = pd.MultiIndex.from_frame(rows[["week", "source"]])
    left_out = keys.isin(pd.MultiIndex.from_frame(weeks[["week", "source"]]))
    return pd.Series(left_out, traffic.index)


def join_traffic(wines: pd.DataFrame, sorted_traffic: pd.DataFrame) -> pd.DataFrame:
    """Put accepted traffic under the raw wines, with where it comes from.

    Returns:
        All columns of the raw wines, then those of the traffic: prediction, event time, version.
    """
    accepted = sorted_traffic[sorted_traffic[RULE] == ""].drop(columns=RULE)
    if accepted.empty:
        return wines
    typed = accepted.astype({QUALITY: QUALITY_DTYPE}).assign(line=0)
    return pd.concat([wines, typed], ignore_index=True)
