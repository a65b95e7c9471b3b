import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from pydantic import ValidationError

from wine_quality.errors import WineQualityError
from wine_quality.modelling import tuning
from wine_quality.modelling.candidates import Candidate, build_model
from wine_quality.modelling.evaluation import assign_folds, score_folds
from wine_quality.modelling.tuning import Budget, FinishedTrial, SearchSettings, Study
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import fingerprint


def mean_mae(model, wines, folds):
    return np.mean([fold.scores["mae"] for fold in score_folds(model, wines, folds)])


NEIGHBOURS = Candidate.model_validate(
    {
        "estimator": "sklearn.neighbors.KNeighborsRegressor",
        "settings": {"n_neighbors": 5, "weights": "uniform"},
        "scale": True,
        "search_space": {
            "n_neighbors": {"type": "int", "low": 1, "high": 40, "log": True},
            "weights": {"type": "categorical", "choices": ["uniform", "distance"]},
        },
    }
)
SEARCH = SearchSettings(folds=3, seed=7, prune=False)
SEVERAL = Budget(trials=6, minutes=5)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/studies/optuna.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_url(request, url, postgres_schema):
    """The database of one machine, and that of several."""
    if request.param == "sqlite":
        yield url
        return
    with postgres_schema("search a study on PostgreSQL too") as postgres:
        yield postgres


@pytest.fixture
def tune(url, labelled_wines):
    """Searches for a candidate; notes the trials that were run."""
    seen: list[FinishedTrial] = []

    def run(candidate=NEIGHBOURS, budget=SEVERAL, search=SEARCH, wines=labelled_wines):
        folds = assign_folds(wines, search.folds, 1, search.seed)
        return Study("knn", url, seen.append).tune(candidate, wines, folds, "mae", search, budget)

    run.seen = seen
    return run


def load_trials(url, study):
    return optuna.load_study(study_name=study, storage=url).trials


# what a search finds


def test_the_best_settings_are_those_of_the_best_trial(tune, labelled_wines):
    found = tune()
    assert found.finished == len(tune.seen) == 6
    assert found.value == min(trial.value for trial in tune.seen)
    folds = assign_folds(labelled_wines, 3, 1, 7)
    model = build_model(NEIGHBOURS.with_settings(found.settings), 7)
    assert mean_mae(model, labelled_wines, folds) == pytest.approx(found.value)
    assert found.candidate == "knn"
    assert found.estimator == NEIGHBOURS.estimator
    assert found.training_wines == fingerprint(labelled_wines)


def test_the_settings_as_configured_are_tried_first(tune):
    found = tune()
    assert tune.seen[0].settings == {"n_neighbors": 5, "weights": "uniform"}
    assert found.configured_value == tune.seen[0].value >= found.value


def value_of(wines, candidate):
    """Metric of a candidate as it stands, on the folds that `tune` uses."""
    folds = assign_folds(wines, SEARCH.folds, 1, SEARCH.seed)
    return mean_mae(build_model(candidate, SEARCH.seed), wines, folds)


OUTSIDE = {
    "outside": {"n_neighbors": 100, "weights": "uniform"},
    "another type": {"n_neighbors": 5, "weights": None},
    "one left to the estimator": {"n_neighbors": 5},
    "all left to the estimator": {},
}


@pytest.mark.parametrize("settings", OUTSIDE.values(), ids=OUTSIDE)
def test_configured_settings_outside_of_the_space_are_tried_too(tune, labelled_wines, settings):
    outside = NEIGHBOURS.model_copy(update={"settings": settings})
    found = tune(outside)
    assert tune.seen[0].settings == settings
    assert found.configured_value == pytest.approx(value_of(labelled_wines, outside))
    assert found.finished == len(tune.seen) == 6
    assert all(set(trial.settings) == {"n_neighbors", "weights"} for trial in tune.seen[1:])
    # another search goes on from there
    tune.seen.clear()
    assert tune(outside) == found
    assert tune.seen == []


def test_settings_as_configured_that_no_other_beats_are_the_best(tune):
    # 39 or 40 neighbours by distance are better than the one that the space offers
    space = {"n_neighbors": {"type": "int", "low": 1, "high": 2}}
    configured = {"n_neighbors": 40, "weights": "distance"}
    changes = {"search_space": space, "settings": configured}
    found = tune(Candidate.model_validate(NEIGHBOURS.model_dump() | changes))
    assert found.value == found.configured_value
    assert found.settings == {"n_neighbors": 40}
    drawn = [trial.value for trial in tune.seen[1:]]
    assert min(drawn) > found.configured_value


def test_of_equally_good_settings_those_as_configured_are_the_best(tune):
    # the estimator's default is 5, so that the space holds a copy of what is configured
    space = {"n_neighbors": {"type": "int", "low": 5, "high": 6}}
    changes = {"search_space": space, "settings": {}}
    found = tune(Candidate.model_validate(NEIGHBOURS.model_dump() | changes))
    assert sorted({trial.value for trial in tune.seen if trial.settings.get("n_neighbors") == 5})
    assert found.value <= found.configured_value
    if found.value == found.configured_value:
        assert found.settings == {}


def test_what_is_configured_anew_is_tried_though_the_budget_is_spent(tune, labelled_wines):
    first = tune()
    tune.seen.clear()
    other = NEIGHBOURS.with_settings({"n_neighbors": 77})
    found = tune(other)
    assert found.study == first.study
    assert [trial.settings["n_neighbors"] for trial in tune.seen] == [77]
    assert found.configured_value == pytest.approx(value_of(labelled_wines, other))
    assert found.finished == first.finished + 1


def test_the_settings_as_configured_are_judged_on_every_fold(tune):
    """Also where a trial of the same settings was stopped after the first folds."""
    search = SearchSettings(folds=3, seed=7, prune=True)
    tune(budget=Budget(trials=25, minutes=5), search=search)
    pruned = next(trial for trial in tune.seen if trial.state == "pruned")
    tune.seen.clear()
    found = tune(
        NEIGHBOURS.with_settings(pruned.settings),
        budget=Budget(trials=25, minutes=5),
        search=search,
    )
    (trial,) = tune.seen
    assert (trial.settings, trial.state, len(trial.values)) == (pruned.settings, "complete", 3)
    assert found.configured_value == trial.value


def test_a_study_of_the_first_edition_is_gone_on_with(tune, url, labelled_wines):
    name = tune(budget=Budget(trials=2, minutes=5)).study
    study = optuna.load_study(study_name=name, storage=url)
    old = [
        optuna.trial.create_trial(
            params=trial.params, distributions=trial.distributions, value=trial.value
        )
        for trial in study.trials
    ]
    optuna.delete_study(study_name=name, storage=url)
    # without the attribute that names the settings as configured
    optuna.create_study(study_name=name, storage=url).add_trials(old)
    tune.seen.clear()
    found = tune(budget=Budget(trials=3, minutes=5))
    assert [trial.number for trial in tune.seen] == [2]
    assert found.configured_value == old[0].value


def test_the_same_seed_searches_the_same(tune, url, labelled_wines, tmp_path):
    first = tune()
    folds = assign_folds(labelled_wines, 3, 1, 7)
    other = Study("knn", f"sqlite:///{tmp_path}/other.db")
    assert other.tune(NEIGHBOURS, labelled_wines, folds, "mae", SEARCH, SEVERAL) == first


def test_a_trial_knows_the_mean_after_every_fold(tune):
    tune(budget=Budget(trials=1, minutes=1))
    (trial,) = tune.seen
    assert len(trial.values) == 3
    assert trial.values[-1] == trial.value
    assert trial.state == "complete"
    assert trial.seconds > 0


def test_trials_that_begin_badly_are_pruned(tune):
    # one neighbour is far worse than many, on every fold
    search = SearchSettings(folds=3, seed=7, prune=True)
    found = tune(budget=Budget(trials=25, minutes=5), search=search)
    pruned = [trial for trial in tune.seen if trial.state == "pruned"]
    assert found.finished == 25
    assert found.pruned == len(pruned) > 0
    for trial in pruned:
        assert trial.value is None
        assert len(trial.values) < 3
        assert trial.settings != found.settings


# going on


def test_a_finished_study_is_not_searched_again(tune):
    first = tune()
    tune.seen.clear()
    assert tune() == first
    assert tune.seen == []


def test_a_larger_budget_goes_on_where_the_smaller_ended(tune, url, tmp_path, labelled_wines):
    tune(budget=Budget(trials=3, minutes=5))
    found = tune()
    assert [trial.number for trial in tune.seen] == list(range(6))
    # and draws what one search of six would have drawn
    other: list[FinishedTrial] = []
    folds = assign_folds(labelled_wines, 3, 1, 7)
    Study("knn", f"sqlite:///{tmp_path}/other.db", other.append).tune(
        NEIGHBOURS, labelled_wines, folds, "mae", SEARCH, SEVERAL
    )
    assert [trial.settings for trial in other] == [trial.settings for trial in tune.seen]
    assert found.finished == 6


def test_time_ends_a_search_that_has_a_result(tune):
    found = tune(budget=Budget(trials=500, minutes=1e-6))
    assert found.finished == 1


@pytest.mark.parametrize("what", ["wines", "space", "scale", "search"])
def test_what_changes_a_trials_value_starts_a_new_study(tune, what):
    first = tune(budget=Budget(trials=1, minutes=1)).study
    space = NEIGHBOURS.search_space | {"p": {"type": "int", "low": 1, "high": 2}}
    changed = {
        "wines": {"wines": draw_wines(120, 5)},
        "space": {
            "candidate": Candidate.model_validate(NEIGHBOURS.model_dump() | {"search_space": space})
        },
        "scale": {"candidate": NEIGHBOURS.model_copy(update={"scale": False})},
        "search": {"search": SearchSettings(folds=2, seed=7, prune=False)},
    }[what]
    second = tune(budget=Budget(trials=1, minutes=1), **changed).study
    assert second != first
    assert second.startswith("knn-")


def test_the_studys_name_holds_the_wines_fingerprint(tune, labelled_wines):
    name = tune(budget=Budget(trials=1, minutes=1)).study
    assert name.split("-")[:2] == ["knn", fingerprint(labelled_wines)]


def test_no_settings_are_judged_twice(tune, monkeypatch):
    judged = []
    original = tuning.score_folds

    def score_folds(model, *rest):
        judged.append((model[-1].n_neighbors, model[-1].weights))
        return original(model, *rest)

    monkeypatch.setattr(tuning, "score_folds", score_folds)
    space = {
        "n_neighbors": {"type": "int", "low": 4, "high": 5},
        "weights": {"type": "categorical", "choices": ["uniform", "distance"]},
    }
    few = Candidate.model_validate(NEIGHBOURS.model_dump() | {"search_space": space})
    found = tune(few, budget=Budget(trials=12, minutes=5))
    assert found.finished == 12
    assert len(judged) == len(set(judged)) <= 4


# killed, and several at once

WORKER = """
import sys, time
sys.path.insert(0, {folder!r})
import pandas as pd
from wine_quality.modelling.candidates import Candidate
from wine_quality.modelling.evaluation import assign_folds
from wine_quality.modelling.tuning import Budget, SearchSettings, Study
from wine_quality.traffic.synthetic import draw_wines

wines = draw_wines(120, 3)
search = SearchSettings(folds=2, seed=7, prune=False)
candidate = Candidate.model_validate({{
    "estimator": "slow.SlowTree",
    "settings": {{"min_samples_leaf": 5}},
    "search_space": {{"min_samples_leaf": {{"type": "int", "low": 1, "high": 1000}}}},
}})
study = Study("tree", {url!r}, lambda trial: print(trial.number, flush=True))
found = study.tune(candidate, wines, assign_folds(wines, 2, 1, 7), "rmse", search,
                   Budget(trials={trials}, minutes=5))
print(found.study, flush=True)
"""
SLOW = """
import time
from sklearn.tree import DecisionTreeRegressor

class SlowTree(DecisionTreeRegressor):
    def fit(self, X, y, **given):
        time.sleep(0.2)
        return super().fit(X, y, **given)
"""


@pytest.fixture
def start_worker(tmp_path, shared_url):
    started = []

    def start(trials, grace=tuning.GRACE):
        (tmp_path / "slow.py").write_text(SLOW)
        patch = f"import wine_quality.modelling.tuning as t; t.HEARTBEAT, t.GRACE = 1, {grace}\n"
        code = patch + textwrap.dedent(WORKER).format(
            folder=str(tmp_path), url=shared_url, trials=trials
        )
        worker = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if worker.poll() is None:
            os.kill(worker.pid, signal.SIGKILL)
        worker.communicate()


def of_state(trials, *states):
    return [trial for trial in trials if trial.state in states]


def assert_judged_once(trials):
    """Settings drawn again, or configured ones that two processes queued, take what is known."""
    values = {}
    for trial in trials:
        if "same_as" not in trial.user_attrs:
            assert str(trial.params) not in values
            values[str(trial.params)] = trial.value
    for trial in trials:
        assert trial.value == values[str(trial.params)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_after_a_kill_no_finished_trial_is_lost_or_repeated(start_worker, shared_url, how):
    url = shared_url
    killed = start_worker(trials=1000)
    for _ in range(4):
        assert killed.stdout.readline().strip().isdigit(), killed.stderr.read()
    os.kill(killed.pid, how)
    killed.wait()
    (name,) = optuna.get_all_study_names(storage=url)
    before = load_trials(url, name)
    finished = {t.number: (t.params, t.value) for t in of_state(before, TrialState.COMPLETE)}
    interrupted = of_state(before, TrialState.RUNNING, TrialState.FAIL)
    if how is signal.SIGINT:
        # it waits to be run again at once, without a heartbeat to be missed first
        waiting = of_state(before, TrialState.WAITING)
        assert [t.system_attrs["fixed_params"] for t in waiting] == [t.params for t in interrupted]
        assert of_state(before, TrialState.RUNNING) == []
    assert len(finished) >= 4

    budget = len(finished) + 3
    again = start_worker(trials=budget, grace=2)
    output, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    after = load_trials(url, name)
    assert {t.number: (t.params, t.value) for t in after if t.number in finished} == finished
    complete = of_state(after, TrialState.COMPLETE)
    assert len(complete) == budget
    # only what was not finished was run
    assert not {int(line) for line in output.splitlines()[:-1]} & finished.keys()
    assert_judged_once(complete)
    assert of_state(after, TrialState.RUNNING) == []
    for trial in interrupted:
        assert after[trial.number].state == TrialState.FAIL
        if trial.params:
            assert trial.params in [t.params for t in complete]


def test_two_workers_share_a_study(start_worker, shared_url):
    workers = [start_worker(trials=10) for _ in range(2)]
    results = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], results
    numbers = [set(output.splitlines()[:-1]) for output, _ in results]
    assert not numbers[0] & numbers[1]
    (name,) = optuna.get_all_study_names(storage=shared_url)
    complete = of_state(load_trials(shared_url, name), TrialState.COMPLETE)
    # each may have begun the last one before it saw the other's
    assert len(complete) in {10, 11}
    assert_judged_once(complete)


ONE = Candidate.model_validate(
    NEIGHBOURS.model_dump()
    | {
        "search_space": {"n_neighbors": {"type": "int", "low": 5, "high": 6}},
        "settings": {"n_neighbors": 5},
    }
)


@pytest.fixture
def begin_elsewhere(tune, url):
    """Begins a trial as another process would, which is not heard of again."""

    def begin(candidate=ONE, **settings):
        name = tune(candidate, budget=Budget(trials=1, minutes=5)).study
        tune.seen.clear()
        study = optuna.load_study(study_name=name, storage=url)
        study.enqueue_trial(settings)
        trial = study.ask()
        for key in settings:
            trial.suggest_int(key, 5, 6)
        return study, trial

    return begin


class Clock:
    """Stands for `time` in the module: an hour passes with every look that is waited for."""

    def __init__(self, seconds=3600.0, then=lambda slept: None):
        self.slept = 0
        self._seconds, self._then = seconds, then

    def sleep(self, _):
        self.slept += 1
        assert self.slept < 20, "waits for ever"
        self._then(self.slept)

    def monotonic(self):
        return self.slept * self._seconds


def test_settings_that_another_process_tries_are_waited_for(tune, begin_elsewhere, monkeypatch):
    # the only settings that are not known yet are under way elsewhere for a while, then done
    study, elsewhere = begin_elsewhere(n_neighbors=6)

    def end(slept):
        if slept == 3:
            study.tell(elsewhere, 0.123)

    clock = Clock(seconds=1, then=end)
    monkeypatch.setattr(tuning, "time", clock)
    found = tune(ONE, budget=Budget(trials=12, minutes=5))
    assert clock.slept >= 3
    assert {trial.value for trial in tune.seen} <= {found.configured_value, 0.123}
    assert found.value == 0.123
    assert found.finished == 12


def test_a_trial_that_another_process_has_ended_is_let_go(tune, url, monkeypatch):
    judge = tuning._Search._judge
    ended = []

    def judge_too_late(search, trial):
        value = judge(search, trial)
        if not ended:
            (name,) = optuna.get_all_study_names(storage=url)
            elsewhere = optuna.load_study(study_name=name, storage=url)
            elsewhere.tell(trial.number, 0.123)
            ended.append(trial.number)
        return value

    monkeypatch.setattr(tuning._Search, "_judge", judge_too_late)
    found = tune(budget=Budget(trials=3, minutes=5))
    assert (found.finished, found.value) == (3, 0.123)
    assert [trial.number for trial in tune.seen] == [1, 2]


@pytest.mark.parametrize("settings", [{}, {"n_neighbors": 6}], ids=["nothing drawn yet", "drawn"])
def test_a_trial_without_a_sign_of_life_is_run_again(tune, begin_elsewhere, monkeypatch, settings):
    study, lost = begin_elsewhere(**settings)
    clock = Clock(seconds=tuning.GRACE / 3)
    monkeypatch.setattr(tuning, "time", clock)
    found = tune(ONE, budget=Budget(trials=2, minutes=500))
    assert found.finished == 2
    assert study.trials[lost.number].state == TrialState.FAIL
    (again,) = tune.seen
    assert settings.items() <= again.settings.items()
    # its signs are compared over the whole grace period
    assert clock.slept == 4


def test_a_trial_that_shows_signs_of_life_is_left_alone(tune, begin_elsewhere, monkeypatch):
    study, elsewhere = begin_elsewhere(n_neighbors=6)

    def live(slept):
        elsewhere.set_user_attr(tuning.SIGN_OF_LIFE, slept)
        if slept == 12:
            study.tell(elsewhere, 0.123)

    clock = Clock(seconds=tuning.GRACE / 3, then=live)
    monkeypatch.setattr(tuning, "time", clock)
    found = tune(ONE, budget=Budget(trials=2, minutes=500))
    assert (found.finished, found.value, clock.slept) == (2, 0.123, 12)
    assert tune.seen == []


def test_a_trial_shows_signs_of_life(tune, url, monkeypatch):
    monkeypatch.setattr(tuning, "HEARTBEAT", 0.01)
    shown = []

    def score_folds(model, *rest):
        (name,) = optuna.get_all_study_names(storage=url)
        deadline = time.monotonic() + 60
        while len(set(shown)) < 3:
            assert time.monotonic() < deadline
            (trial,) = optuna.load_study(study_name=name, storage=url).trials
            shown.append(trial.user_attrs.get(tuning.SIGN_OF_LIFE))
        return score_all(model, *rest)

    score_all = tuning.score_folds
    monkeypatch.setattr(tuning, "score_folds", score_folds)
    tune(budget=Budget(trials=1, minutes=5))
    seen = [sign for sign in shown if sign is not None]
    assert seen == sorted(seen)
    assert "signs of life" not in [thread.name for thread in threading.enumerate()]


def test_a_trial_that_is_interrupted_is_queued_with_what_it_tries(tune, url, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    outside = NEIGHBOURS.with_settings({"n_neighbors": 77})
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "score_folds", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tune(outside)
    (name,) = optuna.get_all_study_names(storage=url)
    states = [trial.state for trial in load_trials(url, name)]
    assert states == [TrialState.FAIL, TrialState.WAITING]
    found = tune(outside)
    assert tune.seen[0].number == 1
    assert found.configured_value == tune.seen[0].value
    assert [t.settings["n_neighbors"] for t in tune.seen].count(77) == 1


@pytest.mark.parametrize("settings", [{}, {"n_neighbors": 6}], ids=["none drawn yet", "the same"])
def test_a_twin_is_waited_for_until_the_deadline(
    begin_elsewhere, labelled_wines, monkeypatch, settings
):
    study, elsewhere = begin_elsewhere(**settings)
    clock = Clock(seconds=1)
    monkeypatch.setattr(tuning, "time", clock)
    folds = assign_folds(labelled_wines, SEARCH.folds, 1, SEARCH.seed)
    search = tuning._Search(study, ONE, labelled_wines, folds, "mae", SEARCH, deadline=2.5)
    number = elsewhere.number + 1
    assert search._known_twin(number, {"n_neighbors": 6}, whole=False) is None
    assert clock.slept == 3


# what goes wrong


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql+psycopg://someone:secret@127.0.0.1:1/x", "postgresql"),
        ("postgresql://someone:secret@127.0.0.1:1/x", "postgresql.*refused"),
        ("postgres://someone:secret@127.0.0.1:1/x", "postgres.*refused"),
        ("postgres://someone:secret@127.0.0.1:a/x", "is no URL"),
        ("no url", "is no URL"),
        ("sqlite:////dev/null/optuna.db", "/dev/null"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(labelled_wines, url, named):
    folds = assign_folds(labelled_wines, 3, 1, 7)
    message = f"(?s)database of studies.*{named}.*credentials.yml"
    with pytest.raises(WineQualityError, match=message) as e:
        Study("knn", url).tune(NEIGHBOURS, labelled_wines, folds, "mae", SEARCH, SEVERAL)
    assert "secret" not in str(e.value)


def test_a_damaged_database_is_named(tune, url):
    path = Path(url.removeprefix("sqlite:///"))
    path.parent.mkdir()
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(WineQualityError, match=r"not a database.*fix it or move it away"):
        tune()


def test_settings_that_cannot_be_fitted_are_named(tune):
    space = {"n_neighbors": {"type": "int", "low": 5000, "high": 6000}}
    wrong = Candidate(estimator=NEIGHBOURS.estimator, search_space=space)
    with pytest.raises(WineQualityError, match=r"cannot be fitted.*search_space"):
        tune(wrong)


@pytest.mark.parametrize(
    "wrong", [{"trials": 0, "minutes": 1}, {"trials": 1, "minutes": 0}, {"trials": 1, "hours": 1}]
)
def test_a_wrong_budget_is_refused(wrong):
    with pytest.raises(ValidationError):
        Budget.model_validate(wrong)


def test_a_trials_draw_depends_on_its_number(tune):
    tune(budget=Budget(trials=5, minutes=5))
    drawn = [trial.settings["n_neighbors"] for trial in tune.seen[1:]]
    assert len(set(drawn)) > 1
    assert np.isfinite([trial.value for trial in tune.seen]).all()
