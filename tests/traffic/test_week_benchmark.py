"""The benchmark of simulated weeks: what it makes of two weeks in one folder."""

import importlib.util
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from wine_quality.drift.alerts import Alert
from wine_quality.traffic.scenarios import DriftParameters, describe_drift

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "simulated_week.py"
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def benchmark_module(monkeypatch):
    spec = importlib.util.spec_from_file_location("simulated_week", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "simulated_week", module)
    spec.loader.exec_module(module)
    return module


def test_a_drift_that_comes_in_two_periods_is_scored_in_each(benchmark_module):
    shift = {"kind": "shift", "column": "pH", "amount": 1.0, "until": 6.0}
    scenarios = DriftParameters(enabled=True, scenarios={"sour": shift}).active()
    truth = [
        row
        for day in range(2)
        for row in describe_drift(scenarios, START + day * DAY, START + (day + 1) * DAY)
    ]
    # the first day's is found in the third hour, the second day's never; one alert is of none
    found_at, elsewhere = START + 2 * HOUR, START + 12 * HOUR
    alerts = [
        Alert("drift", "1", subject, "all", at, at - HOUR, at - HOUR, at, None, 50, "moved")
        for subject, at in (("pH", found_at), ("alcohol", elsewhere), ("prediction", found_at))
    ]
    found = benchmark_module.score(truth, alerts)
    first, second = map(benchmark_module.key, truth)
    assert found.delays[first] == 3
    assert found.onsets[first] == 1
    assert pd.isna(found.delays[second])
    assert found.false_alerts == 1
