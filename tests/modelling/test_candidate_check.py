import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning

from wine_quality.errors import WineQualityError
from wine_quality.modelling import candidate_check
from wine_quality.modelling.candidate_check import FEW, MANY, check_candidate, draw_wines_evenly
from wine_quality.modelling.candidates import Candidate
from wine_quality.wines import INPUTS, MEASUREMENTS, TYPE

TREE = "sklearn.tree.DecisionTreeRegressor"


class Ours(RegressorMixin, BaseEstimator):
    """An estimator of a team, which takes wines from `least` on."""

    def __init__(self, least=1, odd=None):
        self.least = least
        self.odd = odd

    def fit(self, wines, quality):
        if len(wines) < self.least:
            raise ValueError(f"{len(wines)} wines are too few.")
        self.mean_ = np.mean(quality)
        return self

    def predict(self, wines):
        return np.full(len(wines), self.mean_)


class Held:
    """What skops trusts only by name."""

    def __init__(self):
        self.x = 1


OURS = f"{Ours.__module__}.Ours"
HELD = f"{Held.__module__}.Held"


def candidate(estimator=TREE, search_space=None, **settings):
    return Candidate(estimator=estimator, settings=settings, search_space=search_space or {})


def floats(low, high):
    return {"type": "float", "low": low, "high": high}


@pytest.mark.parametrize(
    "good",
    [
        candidate(max_depth=3),
        candidate(search_space={"max_depth": {"type": "int", "low": 2, "high": 9}}),
        candidate("sklearn.neighbors.KNeighborsRegressor", n_neighbors=5),
        # more than are tried at first
        candidate("sklearn.ensemble.RandomForestRegressor", n_estimators=2, max_samples=FEW + 1),
    ],
)
def test_a_candidate_that_can_be(good):
    check_candidate(good, 0, ())


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (candidate("lightgbm_not_here.LGBM"), "Install what has lightgbm_not_here"),
        (candidate(depth=3), "unexpected keyword argument 'depth'"),
        (candidate(max_depth=-3), "cannot be fitted: The 'max_depth' parameter of"),
        (candidate("xgboost.XGBRegressor", max_depth="deep"), "cannot be fitted: "),
        (
            candidate(search_space={"max_dept": floats(1, 2)}),
            "has no setting max_dept, which its search_space names",
        ),
        (
            candidate(search_space={"min_samples_leaf": floats(0.5, 2.5)}),
            "does not take min_samples_leaf 2.5, which its search_space holds",
        ),
        (
            candidate(
                "sklearn.neighbors.KNeighborsRegressor",
                {"weights": {"type": "categorical", "choices": ["uniform", "even"]}},
            ),
            "does not take weights 'even'",
        ),
        (candidate(OURS, least=MANY + 1), f"{MANY} wines are too few"),
    ],
)
def test_a_candidate_that_cannot_be_is_refused(bad, said):
    with pytest.raises(WineQualityError) as refused:
        check_candidate(bad, 0, [OURS])
    assert said in str(refused.value)
    assert str(refused.value).endswith("in the training parameters.")


def test_a_team_names_the_types_of_its_candidate(monkeypatch):
    monkeypatch.setattr(Ours, "fit", _fit_holding_another)
    with pytest.raises(WineQualityError) as refused:
        check_candidate(candidate(OURS), 0, [OURS])
    assert str(refused.value) == (
        f"Ours holds types that nobody has allowed ({HELD}), so that no version of it would be "
        "loaded: name them in trusted_types of globals.yml (for the service: in "
        "WINE_QUALITY_TRUSTED_TYPES)."
    )
    check_candidate(candidate(OURS), 0, [OURS, HELD])


def _fit_holding_another(self, wines, quality):
    self.mean_, self.held_ = np.mean(quality), Held()
    return self


def test_warnings_of_a_trial_are_nobodys_business(recwarn):
    check_candidate(candidate("sklearn.linear_model.SGDRegressor", max_iter=1), 0, ())
    assert not recwarn.list
    # it does warn where nobody keeps it quiet
    with pytest.warns(ConvergenceWarning):
        candidate_check._try(candidate("sklearn.linear_model.SGDRegressor", max_iter=1), 0)


def test_drawn_wines():
    wines = draw_wines_evenly(2000, 1)
    assert list(wines) == list(INPUTS)
    assert set(wines[TYPE]) == {"red", "white"}
    wide = draw_wines_evenly(2000, 1, reach=2)
    for m in MEASUREMENTS:
        assert wines[m.name].between(*m.plausible).all()
        assert wide[m.name].max() > m.plausible[1]
