import importlib
import sys
import threading
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec

import numpy as np
import pandas as pd
import pytest

from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profiles import Profile, count
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.summary_picture import MOST_LABELS, plot_summary
from wine_quality.drift.verdicts import JUDGED_COLUMNS, VERDICTS_DTYPES, decide
from wine_quality.drift.windows import judge_traffic, make_windows

Judged = tuple[pd.DataFrame, pd.DataFrame]
SUBJECTS = len(JUDGED_COLUMNS) + 2
"""Beside the columns how they go together, and copies."""


@pytest.fixture(scope="module")
def judge(
    reference: Reference, as_log: Callable[..., pd.DataFrame]
) -> Callable[[pd.DataFrame, int], Judged]:
    def judge(wines: pd.DataFrame, per_day: int) -> Judged:
        return judged(count(as_log(wines, per_day), reference), reference)

    return judge


def judged(hours: Profile, reference: Reference) -> Judged:
    settings, now = DriftSettings(), pd.Timestamp("2027-01-01", tz="UTC").to_pydatetime()
    windows = *make_windows(hours, settings), reference, "3", settings
    traffic = judge_traffic({"3": hours}, settings, now)
    verdicts = pd.concat([decide(*windows), traffic], ignore_index=True)
    return verdicts, judge_performance(*windows)


@pytest.fixture(scope="module")
def week(judge, draw_wines) -> Judged:
    """Seven days: on the sixth the alcohol rises and the model errs, the seventh has no labels."""
    wines = draw_wines(1400, 71)
    day = wines.index // 200
    wines.loc[day == 5, "alcohol"] += 2
    wines.loc[day == 5, "prediction"] += 1
    wines.loc[day == 6, "quality"] = np.nan
    return judge(wines, 200)


def panels(verdicts: pd.DataFrame, model_verdicts: pd.DataFrame):
    figure = plot_summary(verdicts, model_verdicts)
    figure.canvas.draw()
    return {axes.get_title(loc="left").split(":")[0]: axes for axes in figure.axes}


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def test_cells_hold_the_scores_by_their_thresholds(week):
    verdicts, _ = week
    columns = verdicts[verdicts["column"] != "traffic"]
    heat = panels(*week)["Drift"]
    shown = heat.collections[0].get_array().reshape(SUBJECTS, 7)
    times = (columns["value"] / columns["threshold"]).to_numpy().reshape(7, -1).T
    np.testing.assert_allclose(shown, times)
    names = [label.get_text() for label in heat.get_yticklabels()]
    assert names == [name.replace("_", " ") for name in columns["column"].unique()]


def test_every_drifted_cell_is_marked_and_no_other(week):
    verdicts, _ = week
    heat = panels(*week)["Drift"]
    marked = {text.get_position() for text in heat.texts if text.get_text() == "×"}
    names = verdicts["column"].unique().tolist()
    starts = sorted(verdicts["window_start"].unique())
    drifted = verdicts[verdicts["verdict"] == "drift"]
    assert {"alcohol", "prediction"} <= set(drifted["column"])
    assert marked == {
        (starts.index(row.window_start) + 0.5, names.index(row.column) + 0.5)
        for row in drifted.itertuples()
    }


def test_the_error_stands_in_the_range_that_is_no_decay_or_is_marked(week):
    _, model_verdicts = week
    whole = model_verdicts[model_verdicts["segment"] == "all"]
    assert whole["verdict"].tolist() == ["ok"] * 5 + ["decayed", "no_labels"]
    error = panels(*week)["Model"]
    lines = {line.get_label(): line for line in error.lines}
    np.testing.assert_allclose(lines["window"].get_ydata(), whole["mae"])
    np.testing.assert_allclose(lines["decayed"].get_ydata(), whole["mae"][5:6])
    tops = [bar.get_y() + bar.get_height() for bar in error.patches]
    for top, row in zip(tops[:6], whole.itertuples(), strict=False):
        assert (row.mae > top) == (row.mae_score > row.mae_threshold)
        assert top > row.reference_mae


def test_traffic_is_drawn_and_its_lack_marked(judge, draw_wines, as_log, reference):
    log = as_log(draw_wines(300, 72), 50)
    log = log[log["event_time"].dt.day != 3]
    axes = panels(*judged(count(log, reference), reference))["Traffic"]
    assert [bar.get_height() for bar in axes.patches] == [50, 50, 0, 50, 50, 50]
    assert texts(axes) == ["0"]


def test_a_window_too_small_to_judge_is_marked_as_such(judge, draw_wines):
    drawn = panels(*judge(draw_wines(20, 73), 20))
    assert texts(drawn["Drift"]) == ["–"] * SUBJECTS
    assert [bar.get_height() for bar in drawn["Traffic"].patches] == [20]


def test_no_labels_and_no_windows_are_said(week):
    verdicts, model_verdicts = week
    unlabelled = panels(verdicts, model_verdicts[model_verdicts["verdict"] == "no_labels"])
    assert texts(unlabelled["Model"]) == ["No ground truth yet"]
    nothing = panels(verdicts.iloc[:0], model_verdicts.iloc[:0])
    assert [texts(axes)[0] for axes in nothing.values()] == [
        "No window has been judged yet",
        "No ground truth yet",
        "No traffic has been counted yet",
    ]


def test_many_windows_of_two_versions_are_named_sparsely(week):
    verdicts, model_verdicts = week
    many = [
        verdicts.assign(window_start=verdicts["window_start"] + pd.Timedelta(days=7 * weeks))
        for weeks in range(14)
    ]
    both = pd.concat([*many, verdicts.assign(model_version="4")])
    labels = panels(both, model_verdicts)["Traffic"].get_xticklabels()
    assert len(labels) <= MOST_LABELS
    assert labels[0].get_text() == "2026-03-01 v3"


def test_a_verdict_of_another_name_is_drawn_without_a_mark(week):
    verdicts, model_verdicts = week
    renamed = verdicts.assign(verdict="something_new")[list(VERDICTS_DTYPES)]
    assert texts(panels(renamed, model_verdicts)["Drift"]) == []


class HalfImported:
    """An IPython whose import goes on until a thread waits for it, or has drawn without it."""

    def __init__(self, drawing: threading.Thread, drawn: threading.Event) -> None:
        self.begun = threading.Event()
        self._drawing, self._drawn = drawing, drawn

    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == "IPython" else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        self.begun.set()
        deadline = time.monotonic() + 60
        while not (self._drawn.is_set() or self._is_waited_for()):
            assert time.monotonic() < deadline, "the picture is neither drawn nor waiting"
            time.sleep(0.01)
        module.version_info = (9, 0, 0)

    def _is_waited_for(self):
        frame = sys._current_frames()[self._drawing.ident]
        is_lock = frame.f_code.co_qualname == "_ModuleLock.acquire"
        return is_lock and frame.f_locals["self"].name == "IPython"


def test_nothing_is_drawn_while_another_thread_imports_ipython(week, monkeypatch):
    """Plotly imports it, and Matplotlib asks half a module for its version."""
    from matplotlib.backend_bases import FigureCanvasBase

    # asked once a process
    FigureCanvasBase._fix_ipython_backend2gui.cache_clear()
    drawn = threading.Event()
    slow = HalfImported(threading.current_thread(), drawn)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(sys, "meta_path", [slow, *sys.meta_path])
    other = threading.Thread(target=importlib.import_module, args=("IPython",))
    other.start()
    try:
        slow.begun.wait(60)
        assert panels(*week)
    finally:
        drawn.set()
        other.join()
