import numpy as np
import pandas as pd
import pytest

from wine_quality.modelling.candidates import Candidate
from wine_quality.retraining.tasters import move_labels
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import QUALITY, QUALITY_BOUNDS, TYPE

TREE = Candidate(estimator="sklearn.tree.DecisionTreeRegressor", settings={"min_samples_leaf": 100})
WINES = draw_wines(6000, 5)
RECENT = WINES.index[4500:]


def judged_since(change):
    """The last wines are judged otherwise, by some points for each type."""
    later = WINES[QUALITY] + WINES[TYPE].map(change)
    quality = WINES[QUALITY].where(~WINES.index.isin(RECENT), later)
    return WINES.assign(**{QUALITY: quality.clip(*QUALITY_BOUNDS).astype(int)})


def test_earlier_labels_move_by_how_much_the_tasters_of_each_type_changed():
    wines = judged_since({"red": -2, "white": 1})
    moved, words = move_labels(wines, RECENT, TREE, 0)
    assert moved.loc[RECENT].equals(wines.loc[RECENT])
    change = (moved[QUALITY] - wines[QUALITY]).drop(RECENT).groupby(wines[TYPE]).mean()
    assert change.to_dict() == pytest.approx({"red": -2, "white": 1}, abs=0.1)
    assert words.startswith("moved by -")
    assert words.endswith("(white wines)")
    assert moved.dtypes.equals(wines.dtypes)
    assert moved.drop(columns=QUALITY).equals(wines.drop(columns=QUALITY))


def test_where_nobody_changed_next_to_nothing_moves():
    moved, _ = move_labels(WINES, RECENT, TREE, 0)
    assert (moved[QUALITY] != WINES[QUALITY]).mean() < 0.1
    assert np.abs((moved[QUALITY] - WINES[QUALITY]).mean()) < 0.1


def test_labels_stay_on_their_scale_and_a_type_without_recent_wines_as_it_was():
    reds = WINES[WINES[TYPE] == "red"].index
    recent = reds[-300:]
    wines = WINES.assign(**{QUALITY: WINES[QUALITY].where(~WINES.index.isin(recent), 0)})
    moved, words = move_labels(wines, recent, TREE, 0)
    assert moved[QUALITY].between(*QUALITY_BOUNDS).all()
    whites = WINES[TYPE] == "white"
    assert moved.loc[whites, QUALITY].equals(wines.loc[whites, QUALITY])
    assert "white" not in words


def test_without_earlier_wines_there_is_nothing_to_move():
    moved, words = move_labels(WINES, pd.RangeIndex(6000), TREE, 0)
    assert moved.equals(WINES)
    assert words == "moved by nothing: there are none"
