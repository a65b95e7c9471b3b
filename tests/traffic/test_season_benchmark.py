"""The benchmark of simulated seasons: what it takes for garbage, for truth and for a mistake."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from wine_quality.wines import INPUTS, QUALITY

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "season.py"


@pytest.fixture(scope="module")
def season_module():
    spec = importlib.util.spec_from_file_location("season", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "season", module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def parameters(season_module):
    return season_module.read_parameters()


@pytest.fixture(scope="module")
def season(season_module, parameters):
    return season_module.make_season(parameters, 1, quiet=False)


def test_the_season_of_the_environment_has_what_it_promises(season):
    weeks = [week.traffic for week in season.weeks]
    assert [len(week) for week in weeks] == [2000] * 12
    # garbage in the seventh and ninth week alone
    assert [bool(week["garbage"].any()) for week in weeks] == [k in (6, 8) for k in range(12)]
    stuck, flooded = weeks[6][weeks[6]["garbage"]], weeks[8][weeks[8]["garbage"]]
    assert stuck["alcohol"].nunique() == 1
    assert set(flooded["source"]) == {"partner"}
    # the truth is not what the flood says
    assert np.corrcoef(flooded[QUALITY], flooded["label"].fillna(5))[0, 1] < 0.2
    sound = weeks[8][~weeks[8]["garbage"] & weeks[8]["label"].notna()]
    assert np.corrcoef(sound[QUALITY], sound["label"])[0, 1] > 0.9
    red = [(week["type"] == "red").mean() for week in weeks]
    assert min(red[6:9]) > 0.45 > 0.3 > max(*red[:5], *red[9:])
    assert weeks[11]["alcohol"].mean() < weeks[0]["alcohol"].mean() - 0.5
    assert weeks[11][QUALITY].mean() < weeks[0][QUALITY].mean() - 0.3


def test_nobody_is_asked_about_wines_that_he_was_fitted_on(season):
    def wines(frame):
        return set(frame[list(INPUTS)].dropna().itertuples(index=False, name=None))

    before = wines(season.raw)
    for week in season.weeks:
        own = wines(week.traffic[~week.traffic["garbage"]])
        assert len(own) > 750
        # not even where the types' shares change, and wines are drawn again
        assert len(own & (before | wines(week.ideal) | wines(week.probe))) < 5
        before |= own


def test_a_promotion_that_makes_it_worse_is_wrong_if_it_stays(season_module, season):
    def always(answer):
        return season_module.Answering(lambda wines: np.full(len(wines), answer), 0.0)

    good, bad = always(5.5), always(8.0)
    for end, wrong in ((1_500, 0), (3_000, 1)):
        result = season_module.Result([])
        answering = [(0, good), (1_000, bad), (end, good)]
        season_module.add_promotions(season, answering, 21_600, result)
        assert (result.promotions, result.wrong) == (1, wrong)
