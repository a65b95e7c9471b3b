"""The benchmark on a few splits of the real wines: its goals hold, within what those can tell."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "drift_power.py"
SPLITS = 6


@pytest.fixture(scope="module")
def benchmark_module():
    spec = importlib.util.spec_from_file_location("drift_power", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["drift_power"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["drift_power"]


@pytest.fixture(scope="module")
def tally(benchmark_module):
    folder = Path(os.environ.get("WINE_QUALITY_DATA", "")) / "uci"
    if not os.environ.get("WINE_QUALITY_DATA") or not folder.exists():
        pytest.skip("needs the UCI wines: set WINE_QUALITY_DATA to the folder that holds uci/")
    tally, wines = benchmark_module.Tally(), benchmark_module.read_wines(folder)
    for seed in range(SPLITS):
        rng = np.random.default_rng([11, seed])
        split = benchmark_module.divide(wines, rng)
        benchmark_module.count_false_alarms(split, rng, tally, {100: 10, 500: 8})
        benchmark_module.count_detections(split, rng, tally)
    return tally


@pytest.mark.slow
def test_unchanged_wines_are_quiet(tally):
    windows = tally.trials["drift", 100] + tally.trials["drift", 500]
    assert windows == pytest.approx(18 * SPLITS, abs=SPLITS)
    alarms = sum(tally.hits[kind, n] for kind in ("drift", "data_quality") for n in (100, 500))
    assert alarms <= 5  # 1.1 expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "n", "least"),
    [("shift of 0.5 sd", 100, 0.9), ("shift of 0.25 sd", 500, 0.9), ("tutorial's rule", 100, 0.98)],
)
def test_altered_columns_are_found_and_no_others(scenario, n, least, tally):
    assert tally.trials[scenario, n, "all"] == 11 * SPLITS
    assert tally.hits[scenario, n, "all"] >= least * 11 * SPLITS
    others = scenario, n, "other columns"
    assert tally.hits[others] <= 0.01 * tally.trials[others]


def test_wilson_intervals(benchmark_module):
    # Brown, Cai and DasGupta, Statistical Science 16(2), 2001: closed form, 0 and 10 of 10
    low, high = benchmark_module.wilson(0, 10)
    assert low == pytest.approx(0, abs=1e-12)
    assert high == pytest.approx(0.2775, abs=1e-3)
    assert benchmark_module.wilson(10, 10) == (pytest.approx(1 - high), pytest.approx(1))


def test_holm_stops_at_the_first_column_that_passes(benchmark_module):
    p = {"a": 0.001, "b": 0.02, "c": 0.024, "d": 0.5}
    assert benchmark_module.holm(p, 0.05) == {"a"}
    assert benchmark_module.holm(p | {"b": 0.016}, 0.05) == {"a", "b", "c"}
