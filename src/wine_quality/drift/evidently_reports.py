"""One window in Evidently's reports, with our verdicts in place of its own."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib.metadata import version
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from wine_quality.drift.profiles import to_numbers
from wine_quality.drift.vocabulary import count_of
from wine_quality.drift.window_names import in_words
from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PREDICTION, QUALITY, TYPE

if TYPE_CHECKING:
    from evidently import Dataset

KINDS = ("drift", "summary", "regression")
"""The reports of a window."""
FORM = 1
"""Counts up where the reports come to look otherwise, so that they are drawn again."""
MOST_ROWS = 10_000
"""Rows that go into a report; more make it slow and tell no more."""
LARGEST_NUMBER = 1e70
"""Larger ones are left out: Evidently's squares and histograms of them end in an error."""
FEWEST_LABELLED = 10
"""Labelled wines below which a regression report says nothing."""
STATTEST = "wine_quality_score"
"""Name under which Evidently knows our score."""
_ONE_COLUMN = 1 / (len(INPUTS) + 1)
"""One drifted column is a drifted window: the threshold is calibrated for all together."""
_registration = Lock()


@dataclass(frozen=True)
class ReportPage:
    """One report.

    Attributes:
        title: What it shows, of which window and model version.
        html: A whole page.
        json: The snapshot, for `evidently.core.report.Snapshot.loads` and `Workspace.add_run`.
    """

    title: str
    html: str
    json: str


@dataclass(frozen=True)
class WindowReports:
    """The reports of one window.

    Attributes:
        drift: Each judged column's score, threshold and distribution; None if none could be judged.
        summary: Statistics of each column that holds any value; None if none does.
        regression: Predictions against labels; None without ground truth.
        remarks: What was left out, and why, in sentences; the pages show them too.
    """

    drift: ReportPage | None
    summary: ReportPage | None
    regression: ReportPage | None
    remarks: tuple[str, ...]


def report_window(
    rows: pd.DataFrame, held_out: pd.DataFrame, verdicts: pd.DataFrame, seed: int = 0
) -> WindowReports:
    """Draw up Evidently's drift, summary and regression reports of one window.

    The drift report shows the scores, thresholds and verdicts it is given; Evidently's own methods
    decide nothing. Rows beyond `MOST_ROWS` are left out by a seeded draw.

    Args:
        rows: The window's predictions of one model version: inputs, `prediction` and, where known,
            `quality`. Columns may be absent, empty or of a wrong type.
        held_out: The reference's wines, with the same columns.
        verdicts: The window's rows of `decide`, for that model version.
        seed: Seed of the draw.

    Raises:
        WineQualityError: If the verdicts are not those of exactly one window and version.
    """
    window = verdicts[["window_start", "window_end", "model_version"]].drop_duplicates()
    if len(window) != 1:
        raise WineQualityError(
            f"reports are drawn up for one window of one model version, not for {len(window)}: "
            "select its verdicts"
        )
    start, end, version = window.iloc[0]
    of_window = _of_window(start, end, version)
    current, reference = _prepare(rows, seed), _prepare(held_out, seed)
    filled = [str(c) for c in current if current[c].notna().any() and reference[c].notna().any()]
    remarks = _remarks(current, filled, verdicts)
    judged = [c for c in _judged(verdicts) if c in filled]
    labelled, labelled_before = (
        frame.dropna(subset=[QUALITY, PREDICTION]) for frame in (current, reference)
    )
    draft = _Draft(start.to_pydatetime(), of_window, remarks)
    return WindowReports(
        drift=draft.drift(current[judged], reference[judged], verdicts) if judged else None,
        summary=draft.summary(current[filled], reference[filled]) if filled else None,
        regression=draft.regression(labelled, labelled_before)
        if min(len(labelled), len(labelled_before)) >= FEWEST_LABELLED
        else None,
        remarks=remarks,
    )


def report_titles(start: datetime, end: datetime, version: str) -> tuple[str, ...]:
    """The titles of all reports that there may be of a window."""
    return tuple(_title(kind, _of_window(start, end, version)) for kind in KINDS)


def state_of(
    verdicts: pd.DataFrame, model_verdicts: pd.DataFrame, reference: str, seed: int
) -> str:
    """Identify all that the reports of a window show, without reading its wines.

    Wines or labels that were added change a number of wines and, all but surely, a score.

    Args:
        verdicts: The window's rows of `decide`.
        model_verdicts: Its rows of `judge_performance`.
        reference: Identifies the version, and so its reference.
        seed: Seed of the draw.
    """
    tables = (
        table.to_json(orient="values", date_format="iso", double_precision=15)
        for table in (verdicts, model_verdicts)
    )
    shown = [FORM, version("evidently"), MOST_ROWS, seed, reference, *tables]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:32]


def windows_to_keep(windows: pd.DataFrame, most: int, alarming_days: int) -> pd.DataFrame:
    """Choose the windows whose reports are worth their place.

    Half of the places are for the newest windows. Then come the alarming ones of the last days,
    the newest first, then of the alarming ones before them the newest of each week, and the newest
    of the others.

    Args:
        windows: Windows with `window_start`, `window_end`, `model_version` and `alarming`.
        most: How many are kept.
        alarming_days: How far the last days go back from the newest window.

    Returns:
        The chosen rows.
    """
    newest_first = windows.sort_values("window_start", ascending=False, kind="stable")
    start, alarming = newest_first["window_start"], newest_first["alarming"].to_numpy(bool)
    is_new = np.arange(len(windows)) < most // 2
    is_late = (start >= start.max() - pd.Timedelta(days=alarming_days)).to_numpy()
    # weeks since 1970 do, whatever their first day is
    week = (start - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(days=7)
    of_week = pd.DataFrame({"week": week, "version": newest_first["model_version"]})
    first_of_week = np.zeros(len(windows), dtype=bool)
    first_of_week[alarming] = ~of_week[alarming].duplicated()
    places = np.select([is_new, alarming & is_late, first_of_week], [0, 1, 2], 3)
    return newest_first.iloc[np.argsort(places, kind="stable")[:most]]


@dataclass(frozen=True)
class _Draft:
    """What the reports of a window have in common."""

    timestamp: Any
    of_window: str
    remarks: tuple[str, ...]

    def drift(
        self, current: pd.DataFrame, reference: pd.DataFrame, verdicts: pd.DataFrame
    ) -> ReportPage:
        columns = list(current)
        own = verdicts.set_index("column").loc[columns]
        scores = {str(c): float(score) for c, score in own["value"].items()}
        drifted = {str(c): verdict == "drift" for c, verdict in own["verdict"].items()}
        preset = _drift_preset({str(c): float(limit) for c, limit in own["threshold"].items()})
        with _registration:
            _register_stattest(scores, drifted)
            return self._page("drift", preset, current, reference, include_tests=True)

    def summary(self, current: pd.DataFrame, reference: pd.DataFrame) -> ReportPage:
        from evidently.presets import DataSummaryPreset

        return self._page("summary", DataSummaryPreset(), current, reference)

    def regression(self, current: pd.DataFrame, reference: pd.DataFrame) -> ReportPage:
        from evidently.presets import RegressionPreset

        columns = [QUALITY, PREDICTION]
        return self._page("regression", RegressionPreset(), current[columns], reference[columns])

    def _page(
        self,
        kind: str,
        preset: Any,
        current: pd.DataFrame,
        reference: pd.DataFrame,
        *,
        include_tests: bool = False,
    ) -> ReportPage:
        from evidently import Report

        title = _title(kind, self.of_window)
        with np.errstate(all="ignore"):  # correlations of a constant column
            snapshot = Report([preset], include_tests=include_tests).run(
                _dataset(current), _dataset(reference), timestamp=self.timestamp, name=title
            )
        html = _head(snapshot.get_html_str(as_iframe=False), title, self.remarks)
        return ReportPage(title, html, snapshot.dumps())


def _of_window(start: datetime, end: datetime, version: str) -> str:
    return f"{in_words(start)} to {in_words(end)} UTC, model version {version}"


def _title(kind: str, of_window: str) -> str:
    return f"{kind.capitalize()}: {of_window}"


def _drift_preset(thresholds: Mapping[str, float]) -> Any:
    from evidently.metrics import DriftedColumnsCount
    from evidently.presets import DataDriftPreset

    class CountAlike(DataDriftPreset):  # type: ignore[misc]
        """Counts drifted columns by the same parameters in every window.

        Evidently's pages draw one line over time for each combination of parameters, to which the
        thresholds would belong; the method looks verdicts up and needs none.
        """

        def generate_metrics(self, context: Any) -> list[Any]:
            _, *of_columns = super().generate_metrics(context)
            return [DriftedColumnsCount(drift_share=_ONE_COLUMN, method=STATTEST), *of_columns]

    return CountAlike(
        drift_share=_ONE_COLUMN,
        per_column_method=dict.fromkeys(thresholds, STATTEST),
        per_column_threshold=dict(thresholds),
    )


def _register_stattest(scores: Mapping[str, float], drifted: Mapping[str, bool]) -> None:
    """Let Evidently look our scores and verdicts up; a later registration replaces this one."""
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def look_up(
        reference_data: pd.Series, current_data: pd.Series, feature_type: str, threshold: float
    ) -> tuple[float, bool]:
        return scores[str(current_data.name)], drifted[str(current_data.name)]

    stattest = StatTest(
        name=STATTEST,
        display_name="calibrated score",
        allowed_feature_types=[ColumnType.Numerical, ColumnType.Categorical],
    )
    register_stattest(stattest, look_up)


def _dataset(frame: pd.DataFrame) -> "Dataset":
    """Tell Evidently each column's kind; it would take numbers with few values for categories."""
    from evidently import DataDefinition, Dataset, Regression

    numbers = [c for c in frame if c != TYPE]
    paired = {QUALITY, PREDICTION} <= set(numbers)
    definition = DataDefinition(
        numerical_columns=numbers,
        categorical_columns=[c for c in frame if c == TYPE],
        regression=[Regression(target=QUALITY, prediction=PREDICTION)] if paired else [],
    )
    return Dataset.from_pandas(frame, definition)


def _prepare(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Draw at most `MOST_ROWS` rows; numbers as plain floats, the type as text, gaps as missing."""
    drawn = rows if len(rows) <= MOST_ROWS else rows.sample(MOST_ROWS, random_state=seed)
    nothing = pd.Series(np.nan, index=drawn.index)
    types = drawn.get(TYPE, nothing).astype(object)
    prepared = {TYPE: types.where(types.map(lambda x: isinstance(x, str)), None)}
    for name in (*MEASUREMENT_NAMES, PREDICTION, QUALITY):
        numbers = to_numbers(drawn.get(name, nothing))
        usable = np.abs(numbers) < LARGEST_NUMBER
        prepared[name] = pd.Series(np.where(usable, numbers, np.nan), drawn.index)
    return pd.DataFrame(prepared).reset_index(drop=True)


def _judged(verdicts: pd.DataFrame) -> list[str]:
    return verdicts.loc[verdicts["verdict"].isin(["ok", "drift"]), "column"].tolist()


def _remarks(current: pd.DataFrame, filled: list[str], verdicts: pd.DataFrame) -> tuple[str, ...]:
    remarks = [
        f"Left out of the drift report: {column}: {reason}."
        for column, verdict, reason in zip(
            verdicts["column"], verdicts["verdict"], verdicts["reason"], strict=True
        )
        if verdict in ("data_quality", "insufficient_data")
    ]
    if empty := [c for c in (*INPUTS, PREDICTION) if c not in filled]:
        remarks.append(f"Without any value, and left out: {', '.join(empty)}.")
    labelled = int((current[QUALITY].notna() & current[PREDICTION].notna()).sum())
    if labelled == 0:
        remarks.append("No ground truth for this window yet: there is no regression report.")
    elif labelled < FEWEST_LABELLED:
        remarks.append(
            f"Only {count_of(labelled, 'labelled wine')}: there is no regression report."
        )
    return tuple(remarks)


def _head(html: str, title: str, remarks: tuple[str, ...]) -> str:
    """Give Evidently's page a title and our remarks; it has neither."""
    notes = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    header = (
        '<header style="font-family: sans-serif; margin: 1rem">'
        f"<h1 style='font-size: 1.3rem'>{escape(title)}</h1>"
        f"{f'<ul>{notes}</ul>' if notes else ''}</header>"
    )
    head, _, rest = html.partition("<head>")
    before_body, body, after = rest.partition("<body>")
    return f"{head}<head><title>{escape(title)}</title>{before_body}{body}{header}{after}"
