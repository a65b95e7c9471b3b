"""Charts of the model and of the traffic over time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.drift.page.charts import HEIGHT, Chart, Path, Scale, band, bars, columns, steps
from wine_quality.drift.page.shown_windows import ShownWindows, Window, time_ticks
from wine_quality.drift.profiles import Profile
from wine_quality.drift.reference import ALL
from wine_quality.drift.sources import timeline_of
from wine_quality.drift.verdicts import TRAFFIC
from wine_quality.drift.vocabulary import count_of
from wine_quality.drift.window_calendar import HOUR_S
from wine_quality.drift.window_names import in_words, span_in_words
from wine_quality.wines import QUALITY_UNIT

MOST_HOURS = 14 * 24
"""Hours in the chart of the traffic by hour."""
MOST_GAPS = 3
"""Stretches without traffic that are named, the newest."""
SHADES = 4
"""Model versions with a shade of their own; further ones look like the last."""


def model_charts(model_verdicts: pd.DataFrame, shown: ShownWindows) -> tuple[Chart, ...]:
    """Draw error, bias, the parts of the error's change, and the labels.

    Args:
        model_verdicts: Rows of `performance.judge_performance`.
        shown: The windows.

    Returns:
        The charts for which there is any ground truth; the last one, of labels, always.
    """
    rows = shown.rows(model_verdicts[model_verdicts["segment"] == ALL])
    labels = _labels(shown)
    if not rows["mae"].notna().any():
        return (labels,)
    return _error(rows, shown), _bias(rows, shown), _parts(rows, shown), labels


def _error(rows: pd.DataFrame, shown: ShownWindows) -> Chart:
    now, usual, expected = (
        rows[name].to_numpy(float) for name in ("mae", "reference_mae", "expected_mae")
    )
    limit = usual + _room(now - usual, rows["mae_score"], rows["mae_threshold"])
    scale = Scale.around(now, usual, limit, expected)
    heights = {name: scale.y(v) for name, v in (("usual", usual), ("limit", limit))}
    return Chart(
        title="Mean absolute error",
        unit=QUALITY_UNIT,
        summary=_summary("mean absolute error", now, usual, limit),
        width=shown.width,
        paths=(
            *_alarms(rows, shown),
            Path("band", band(shown.places, heights["usual"], heights["limit"])),
            Path("usual", steps(shown.places, heights["usual"])),
            *shown.lines("expected", scale.y(expected)),
            *shown.lines("now", scale.y(now)),
        ),
        y_ticks=scale.ticks(),
        x_ticks=shown.ticks(),
        legend=(
            ("now", "the window's"),
            ("usual", "on the wines that the model was made from"),
            ("band", "a rise that chance explains"),
            ("expected", "to be expected of all the window's wines, with or without ground truth"),
        ),
        note="How far predictions are from the tasters' quality, on average.",
    )


def _bias(rows: pd.DataFrame, shown: ShownWindows) -> Chart:
    now, usual = (rows[name].to_numpy(float) for name in ("bias", "reference_bias"))
    room = np.abs(_room(now - usual, rows["bias_score"], rows["bias_threshold"]))
    low, high = usual - room, usual + room
    scale = Scale.around(now, usual, low, high)
    return Chart(
        title="Bias",
        unit=QUALITY_UNIT,
        summary=_summary("mean error", now, usual, high),
        width=shown.width,
        paths=(
            *_alarms(rows, shown),
            Path("band", band(shown.places, scale.y(low), scale.y(high))),
            Path("usual", steps(shown.places, scale.y(usual))),
            *shown.lines("now", scale.y(now)),
        ),
        y_ticks=scale.ticks(),
        x_ticks=shown.ticks(),
        legend=(
            ("now", "the window's"),
            ("usual", "on the wines that the model was made from"),
            ("band", "a change that chance explains"),
        ),
        note="Mean of prediction less quality: above zero the model flatters the wines.",
    )


def _parts(rows: pd.DataFrame, shown: ShownWindows) -> Chart:
    covariate, concept = (rows[name].to_numpy(float) for name in ("covariate", "concept"))
    scale = Scale.around(covariate, concept)
    zero = np.full(len(rows), float(scale.y(np.zeros(1))[0]))
    return Chart(
        title="Where the change of the error comes from",
        unit=QUALITY_UNIT,
        summary="Parts of the change of the mean absolute error, by window",
        width=shown.width,
        paths=(
            Path("usual", steps(shown.places, zero)),
            *shown.lines("covariate", scale.y(covariate)),
            *shown.lines("now", scale.y(concept)),
        ),
        y_ticks=scale.ticks(),
        x_ticks=shown.ticks(),
        legend=(
            ("covariate", "covariate: other wines come, and the model errs more on such wines"),
            ("now", "concept: the same wines are judged otherwise than the model learnt"),
        ),
        note="Both add up to the change against the wines that the model was made from.",
    )


def _labels(shown: ShownWindows) -> Chart:
    wines = _add_up(shown.places, [w.wines for w in shown.windows], shown.width)
    labelled = _add_up(shown.places, [w.labelled for w in shown.windows], shown.width)
    scale = Scale.around(wines, is_whole=True)
    places, ground = np.arange(shown.width), np.full(shown.width, float(HEIGHT))
    missing = int(wines.sum() - labelled.sum())
    note = f"{count_of(int(wines.sum()), 'wine')}, none without ground truth."
    if missing:
        first = next(w for w in shown.windows if w.labelled < w.wines)
        note = (
            f"{missing:,} of {count_of(int(wines.sum()), 'wine')} have no ground truth yet, the "
            f"first of them in the window {span_in_words(first.start, first.end)}."
        )
    return Chart(
        title="Ground truth",
        unit="wines",
        summary=note,
        width=shown.width,
        paths=(
            Path("missing", bars(places, ground, scale.y(wines))),
            Path("labelled", bars(places, ground, scale.y(labelled))),
        ),
        y_ticks=scale.ticks(),
        x_ticks=shown.ticks(),
        legend=(("labelled", "with ground truth"), ("missing", "still without")),
        note=note,
    )


def traffic_charts(
    verdicts: pd.DataFrame, hours: Mapping[str, Profile], shown: ShownWindows
) -> tuple[Chart, ...]:
    """Draw the wines by window, with what is unusual, and by hour where windows are longer.

    Args:
        verdicts: Rows of `windows.judge_traffic` are used.
        hours: By model version, the counts of all hours.
        shown: The windows.
    """
    if not shown.windows:
        return ()
    longest = max(window.end - window.start for window in shown.windows)
    by_window = _by_window(verdicts, shown)
    if longest.total_seconds() <= HOUR_S:
        return (by_window,)
    by_hour = [
        _by_hour(hours, name, [shown.windows[k] for k in own])
        for name, own in shown.timelines.items()
    ]
    return by_window, *by_hour


def _by_window(verdicts: pd.DataFrame, shown: ShownWindows) -> Chart:
    by_version = {
        version: _add_up(
            shown.places[own := shown.of_version(version)],
            [shown.windows[k].wines for k in own],
            shown.width,
        )
        for version in shown.versions
    }
    traffic = verdicts[verdicts["column"] == TRAFFIC]
    odd = traffic[traffic["verdict"] == "data_quality"]
    unusual = set(zip(odd["model_version"].map(timeline_of), odd["window_start"], strict=True))
    marked = {
        window.place
        for window in shown.windows
        if (timeline_of(window.version), pd.Timestamp(window.start)) in unusual
    }
    gaps = traffic.loc[traffic["verdict"] == "no_traffic", ["window_start", "window_end", "reason"]]
    words = [
        f"{span_in_words(start, end)}: {reason}"
        for start, end, reason in gaps.tail(MOST_GAPS).itertuples(index=False, name=None)
    ]
    chart = _stacked("Wines by window", by_version, shown.starts)
    alarm = "alarm data_quality"
    return replace(
        chart,
        paths=(Path(alarm, columns(sorted(marked))), *chart.paths),
        legend=(*chart.legend, *([(alarm, "an unusual number")] if marked else [])),
        note=f"Without traffic: {'; '.join(words)}." if words else "",
    )


def _by_hour(hours: Mapping[str, Profile], timeline: str, windows: Sequence[Window]) -> Chart:
    end = int(max(window.end for window in windows).timestamp())
    first = int(windows[0].start.timestamp())
    start = max(first // HOUR_S * HOUR_S, end - MOST_HOURS * HOUR_S)
    width = -(-(end - start) // HOUR_S)
    by_version = {
        version: _add_up((own.starts - start) // HOUR_S, own.wines, width)
        for version in dict.fromkeys(window.version for window in windows)
        if version in hours and len(own := hours[version].between(start, end))
    }
    moments = [datetime.fromtimestamp(start + k * HOUR_S, UTC) for k in range(width)]
    title = f"Wines by hour of the source {timeline}" if timeline else "Wines by hour"
    chart = _stacked(title, by_version, moments)
    return replace(chart, note=f"The last {count_of(width, 'hour')}.")


def _stacked(
    title: str, by_version: Mapping[str, NDArray[np.float64]], moments: Sequence[datetime]
) -> Chart:
    """Draw wines over time, those of one model version on top of another's."""
    width = len(moments)
    total = sum(by_version.values(), np.zeros(width))
    scale, places = Scale.around(total, is_whole=True), np.arange(width)
    paths, legend, below = [], [], np.zeros(width)
    for k, (version, wines) in enumerate(by_version.items()):
        shade = f"version-{min(k, SHADES - 1)}"
        top = np.where(wines > 0, scale.y(below + wines), np.nan)
        paths.append(Path(shade, bars(places, scale.y(below), top)))
        legend.append((shade, f"version {version}"))
        below = below + wines
    busiest = int(total.argmax())
    return Chart(
        title=title,
        unit="wines",
        summary=f"{count_of(int(total.sum()), 'wine')}, most of them, {int(total[busiest]):,}, "
        f"from {in_words(moments[busiest])} UTC on",
        width=width,
        paths=tuple(paths),
        y_ticks=scale.ticks(),
        x_ticks=time_ticks(moments),
        legend=tuple(legend),
    )


def _add_up(
    places: NDArray[np.int64], numbers: Sequence[int] | NDArray[np.int64], width: int
) -> NDArray[np.float64]:
    return np.bincount(places, numbers, width).astype(float)


def _room(
    change: NDArray[np.float64], score: pd.Series, threshold: pd.Series
) -> NDArray[np.float64]:
    """How large a change may be: scores are changes in standard errors, thresholds likewise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        room = change / score.to_numpy(float) * threshold.to_numpy(float)
    return np.where(np.isfinite(room), room, np.nan)


def _alarms(rows: pd.DataFrame, shown: ShownWindows) -> tuple[Path, ...]:
    decayed = shown.places[(rows["verdict"] == "decayed").to_numpy(bool)]
    return (Path("alarm decayed", columns(sorted(set(decayed.tolist())))),) if len(decayed) else ()


def _summary(
    what: str, now: NDArray[np.float64], usual: NDArray[np.float64], limit: NDArray[np.float64]
) -> str:
    k = int(np.flatnonzero(~np.isnan(now))[-1])
    words = f"The newest {what} is {now[k]:.3f}, {usual[k]:.3f} on the reference"
    return words if np.isnan(limit[k]) else f"{words}; chance explains up to {limit[k]:.3f}"
