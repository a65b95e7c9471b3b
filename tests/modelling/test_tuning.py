import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from pydantic import ValidationError

from wine_quality.errors import WineQualityError
from wine_quality.modelling import tuning
from wine_quality.modelling.candidates import Candidate, build_model
from wine_quality.modelling.evaluation import assign_folds, cross_validate
from wine_quality.modelling.tuning import Budget, FinishedTrial, SearchSettings, Study
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import fingerprint

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
    assert cross_validate(model, labelled_wines, folds)["mae"].mean() == pytest.approx(found.value)
    assert found.candidate == "knn"
    assert found.estimator == NEIGHBOURS.estimator
    assert found.training_wines == fingerprint(labelled_wines)


def test_the_settings_as_configured_are_tried_first(tune):
    found = tune()
    assert tune.seen[0].settings == {"n_neighbors": 5, "weights": "uniform"}
    assert found.configured_value == tune.seen[0].value >= found.value


def test_configured_settings_outside_of_the_space_are_not_tried(tune):
    outside = NEIGHBOURS.with_settings({"n_neighbors": 400})
    found = tune(outside)
    assert found.configured_value is None
    assert all(trial.settings["n_neighbors"] <= 40 for trial in tune.seen)


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
        assert [t.params for t in of_state(before, TrialState.WAITING)] == [
            t.params for t in interrupted
        ]
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


@pytest.mark.filterwarnings("ignore")
def test_settings_that_another_process_tries_are_waited_for(tune, url, monkeypatch):
    monkeypatch.setattr(tuning, "POLL", 0.05)
    one = {"n_neighbors": {"type": "int", "low": 5, "high": 6}}
    few = Candidate.model_validate(
        NEIGHBOURS.model_dump() | {"search_space": one, "settings": {"n_neighbors": 7}}
    )
    name = tune(few, budget=Budget(trials=1, minutes=5)).study
    (first,) = tune.seen
    study = optuna.load_study(study_name=name, storage=tuning._open_database(url))
    elsewhere = study.ask()
    other = {5: 6, 6: 5}[first.settings["n_neighbors"]]
    # the only settings that are not known yet are under way in another process, which says nothing
    # for a while and then is done
    study._storage.record_heartbeat(elsewhere._trial_id)
    space = optuna.distributions.IntDistribution(5, 6)
    study._storage.set_trial_param(elsewhere._trial_id, "n_neighbors", other, space)
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            study.tell(elsewhere, 0.123)

    monkeypatch.setattr(tuning, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    tune.seen.clear()
    found = tune(few, budget=Budget(trials=12, minutes=5))
    assert len(waited) >= 3
    assert {trial.value for trial in tune.seen} == {first.value, 0.123}
    assert found.value == 0.123


@pytest.mark.filterwarnings("ignore")
def test_a_trial_that_another_process_has_ended_is_let_go(tune, url, monkeypatch):
    judge = tuning._Objective.__call__
    ended = []

    def judge_too_late(objective, trial):
        value = judge(objective, trial)
        if not ended:
            (name,) = optuna.get_all_study_names(storage=url)
            elsewhere = optuna.load_study(study_name=name, storage=url)
            elsewhere.tell(trial.number, 0.123)
            ended.append(trial.number)
        return value

    monkeypatch.setattr(tuning._Objective, "__call__", judge_too_late)
    found = tune(budget=Budget(trials=3, minutes=5))
    assert (found.finished, found.value) == (3, 0.123)
    assert [trial.number for trial in tune.seen] == [1, 2]


@pytest.mark.filterwarnings("ignore")
def test_a_stale_trial_elsewhere_is_waited_for_and_then_run_again(tune, url, monkeypatch):
    monkeypatch.setattr(tuning, "HEARTBEAT", 1)
    monkeypatch.setattr(tuning, "GRACE", 2)
    monkeypatch.setattr(tuning, "POLL", 0.05)
    name = tune(budget=Budget(trials=2, minutes=5)).study
    study = optuna.load_study(study_name=name, storage=tuning._open_database(url))
    lost = study.ask()
    settings = {
        "n_neighbors": lost.suggest_int("n_neighbors", 1, 40, log=True),
        "weights": lost.suggest_categorical("weights", ("uniform", "distance")),
    }
    study._storage.record_heartbeat(lost._trial_id)
    tune.seen.clear()
    begun = time.monotonic()
    tune(budget=Budget(trials=3, minutes=5))
    assert time.monotonic() - begun > 1
    assert [trial.settings for trial in tune.seen] == [settings]


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

    def begin(**settings):
        name = tune(ONE, budget=Budget(trials=1, minutes=5)).study
        tune.seen.clear()
        study = optuna.load_study(study_name=name, storage=tuning._open_database(url))
        trial = study.ask()
        for key, value in settings.items():
            space = optuna.distributions.IntDistribution(5, 6)
            study._storage.set_trial_param(trial._trial_id, key, value, space)
        return study, trial

    return begin


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", [{}, {"n_neighbors": 6}], ids=["new", "put back before"])
def test_a_trial_killed_before_its_first_sign_of_life_is_run_again(
    tune, begin_elsewhere, monkeypatch, settings
):
    monkeypatch.setattr(tuning, "HEARTBEAT", 1)
    monkeypatch.setattr(tuning, "GRACE", 1)
    monkeypatch.setattr(tuning, "POLL", 0.05)
    study, lost = begin_elsewhere(**settings)

    def give_up(*_):
        raise TimeoutError("the lost trial is still waited for")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        found = tune(ONE, budget=Budget(trials=2, minutes=5))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert found.finished == 2
    assert study.trials[lost.number].state == TrialState.FAIL
    (again,) = tune.seen
    assert settings.items() <= again.settings.items()


@pytest.mark.filterwarnings("ignore")
def test_a_trial_that_has_only_just_begun_is_lent_no_sign_of_life(begin_elsewhere, monkeypatch):
    study, young = begin_elsewhere()
    lent = []
    monkeypatch.setattr(study._storage, "record_heartbeat", lent.append)
    tuning._put_back_stale(study)
    assert lent == []
    monkeypatch.setattr(tuning, "GRACE", -1)
    tuning._put_back_stale(study)
    assert lent == [young._trial_id]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", [{}, {"n_neighbors": 6}], ids=["none drawn yet", "the same"])
def test_a_twin_is_waited_for_until_the_deadline(begin_elsewhere, monkeypatch, settings):
    study, elsewhere = begin_elsewhere(**settings)
    study._storage.record_heartbeat(elsewhere._trial_id)
    study.enqueue_trial({"n_neighbors": 6})
    own = study.ask()
    assert own.suggest_int("n_neighbors", 5, 6) == 6
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        assert len(slept) < 5, "waits beyond the deadline"

    # not the module's own functions: threads of the libraries sleep as well
    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: float(len(slept)))
    monkeypatch.setattr(tuning, "time", clock)
    assert tuning._known_twin(own, deadline=2.5) is None
    assert len(slept) == 3


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
