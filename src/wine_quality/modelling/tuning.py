"""Searches a candidate's settings; what it finds is kept in a database and outlives a kill."""

import contextlib
import hashlib
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from pydantic import Field

from wine_quality.database.addresses import parse_database_url, without_password
from wine_quality.database.engines import connect_arguments
from wine_quality.database.errors import DatabaseError, DatabaseUnavailableError
from wine_quality.database.explaining import may_pass
from wine_quality.database.locks import exclusive
from wine_quality.errors import WineQualityError
from wine_quality.modelling.candidates import Candidate, Choices, IntegerRange, build_model
from wine_quality.modelling.evaluation import score_folds
from wine_quality.parameters import Parameters
from wine_quality.wines import fingerprint

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna import Trial
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

HEARTBEAT = 5
"""Seconds between two signs of life of a trial under way."""
GRACE = 30
"""Seconds without a sign of life after which a trial counts as interrupted."""
POLL = 0.5
"""Seconds between two looks at trials that run elsewhere."""
STARTUP_TRIALS = 5
"""Trials drawn at random before the sampler models what it has seen, and before any is pruned."""


class SearchSettings(Parameters):
    """How settings are judged and searched; what changes it starts a new study."""

    folds: int = Field(ge=2, description="Folds of the cross-validation of a trial")
    seed: int = Field(ge=0, description="Seed of the folds, and of each trial's draw")
    prune: bool = Field(description="Whether to stop a trial whose first folds are below average")


class Budget(Parameters):
    """When to stop searching: at whichever comes first."""

    trials: int = Field(
        ge=1,
        description="Finished trials that a study shall have, over all runs; processes that begin "
        "the last one at the same moment each finish theirs",
    )
    minutes: float = Field(gt=0, description="A run begins no trial of a candidate after this time")


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that came to an end.

    Attributes:
        candidate: Name of the candidate.
        study: Name of its study.
        number: Its number there, from 0.
        state: `complete` or `pruned`, or `fail` where it was interrupted.
        settings: What it tried.
        value: Mean metric over its folds; None where it did not complete.
        values: Mean metric over the folds up to each.
        seconds: How long it took.
    """

    candidate: str
    study: str
    number: int
    state: str
    settings: dict[str, Any]
    value: float | None
    values: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class BestSettings:
    """What a study has found.

    Attributes:
        candidate: Name of the candidate.
        estimator: Its class path; settings of another class are of no use to it.
        configured: Its settings as configured, where the search started.
        training_wines: Fingerprint of the wines that it was judged on.
        study: Name of the study.
        metric: Name of what was minimised.
        finished: Number of trials that completed or were pruned.
        pruned: How many of these were pruned.
        configured_value: Metric of the settings as configured; None where they lie outside of the
            search space.
        value: Metric of the best settings.
        settings: The best settings.
    """

    candidate: str
    estimator: str
    configured: dict[str, Any]
    training_wines: str
    study: str
    metric: str
    finished: int
    pruned: int
    configured_value: float | None
    value: float
    settings: dict[str, Any]


Watch = Callable[[FinishedTrial], None]


@dataclass(frozen=True)
class Study:
    """The study of a candidate in a database that several processes may search at once.

    Attributes:
        candidate: Name of the candidate.
        url: The database: SQLite for one machine, PostgreSQL for several.
        watch: Called with every trial that this process finished.
    """

    candidate: str
    url: str
    watch: Watch | None = None

    def tune(
        self,
        candidate: Candidate,
        wines: pd.DataFrame,
        folds: pd.DataFrame,
        metric: str,
        search: SearchSettings,
        budget: Budget,
    ) -> BestSettings:
        """Search a candidate's space until its study has as many trials as the budget asks for.

        The study bears the name of the candidate and a digest of the wines and of all that a
        trial's value depends on. Where it exists it is gone on with: a finished trial counts and is
        not repeated; one that was interrupted or killed is run again with the settings that it had.
        Trials are drawn by the tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011),
        each with a seed of its own number, so that a search that was interrupted draws as one that
        was not. Settings that were drawn before, here or in another process, are not judged again.
        The settings as configured are tried first.

        Args:
            candidate: The candidate, with a search space.
            wines: Training wines.
            folds: Folds of these wines, as `assign_folds` gives them.
            metric: Name of the metric to minimise: rmse or mae.
            search: How to search.
            budget: When to stop.

        Raises:
            WineQualityError: The database cannot be used, or settings cannot be fitted.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            # heartbeats have been an experiment of Optuna's since its version 2
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = self._open(
                _study_name(self.candidate, candidate, wines, metric, search), search
            )
            deadline = time.monotonic() + 60 * budget.minutes
            objective = _Objective(candidate, wines, folds, metric, search, deadline)
            configured = self._enqueue_configured(study, candidate)
            self._search(study, objective, budget, deadline)
            return self._best(study, candidate, wines, metric, configured)

    def _enqueue_configured(
        self, study: "OptunaStudy", candidate: Candidate
    ) -> dict[str, Any] | None:
        """Have the settings as configured tried first, where the space holds them."""
        configured = {
            key: candidate.settings[key]
            for key, space in candidate.search_space.items()
            if key in candidate.settings and space.holds(candidate.settings[key])
        }
        if len(configured) < len(candidate.search_space):
            return None
        study.enqueue_trial(configured, skip_if_exists=True)
        return configured

    def _search(
        self, study: "OptunaStudy", objective: "_Objective", budget: Budget, deadline: float
    ) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from tqdm import tqdm

        title = f"tuning {self.candidate}"
        with tqdm(total=budget.trials, desc=title, unit="trial", disable=None) as bar:
            while _is_trial_missing(study, budget, deadline, bar):
                try:
                    study.optimize(objective, n_trials=1, callbacks=[self._tell])
                except (UpdateFinishedTrialError, ValueError) as error:
                    # Another process has ended this trial: both had taken it from the queue, as
                    # SQLite locks no rows, or this one was held up too long to seem alive. Optuna
                    # says so in either way.
                    if isinstance(error, ValueError) and "Cannot tell a" not in str(error):
                        raise
                except KeyboardInterrupt:
                    _run_again(study, objective.number)
                    raise

    def _open(self, name: str, search: SearchSettings) -> "OptunaStudy":
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        pruner: optuna.pruners.BasePruner = (
            optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
            if search.prune
            else optuna.pruners.NopPruner()
        )
        try:
            # workers that make the same tables at one moment would fail
            with exclusive(self.url, "studies", "opening the database of studies"):
                return optuna.create_study(
                    study_name=name,
                    storage=_open_database(self.url),
                    pruner=pruner,
                    direction="minimize",
                    load_if_exists=True,
                )
        except (
            SQLAlchemyError,
            DatabaseError,
            OSError,
            RuntimeError,
            ImportError,
            ValueError,
        ) as error:
            kind = DatabaseUnavailableError if may_pass(error) else DatabaseError
            raise kind(
                f"The database of studies {without_password(self.url)} cannot be used "
                f"({getattr(error, 'orig', None) or error}): fix it or move it away, or name "
                "another under studies in credentials.yml."
            ) from error

    def _tell(self, study: "OptunaStudy", trial: "FrozenTrial") -> None:
        if self.watch:
            self.watch(self._finished(study, trial))

    def _finished(self, study: "OptunaStudy", trial: "FrozenTrial") -> FinishedTrial:
        duration = trial.duration
        return FinishedTrial(
            candidate=self.candidate,
            study=study.study_name,
            number=trial.number,
            state=trial.state.name.lower(),
            settings=trial.params,
            # a pruned trial bears the value of its last fold, which is no mean over all
            value=trial.value if trial.state.name == "COMPLETE" else None,
            values=tuple(value for _, value in sorted(trial.intermediate_values.items())),
            seconds=duration.total_seconds() if duration else 0.0,
        )

    def _best(
        self,
        study: "OptunaStudy",
        candidate: Candidate,
        wines: pd.DataFrame,
        metric: str,
        configured: dict[str, Any] | None,
    ) -> BestSettings:
        finished, _ = _finished_and_running(study)
        trials = [self._finished(study, trial) for trial in finished]
        complete = [(trial.value, trial) for trial in trials if trial.value is not None]
        value, best = min(complete, key=lambda pair: (pair[0], pair[1].number))
        return BestSettings(
            candidate=self.candidate,
            estimator=candidate.estimator,
            configured=dict(candidate.settings),
            training_wines=fingerprint(wines),
            study=study.study_name,
            metric=metric,
            finished=len(trials),
            pruned=len(trials) - len(complete),
            configured_value=next((v for v, t in complete if t.settings == configured), None),
            value=value,
            settings=best.settings,
        )


class _Objective:
    """Cross-validates the settings of a trial, fold by fold."""

    def __init__(
        self,
        candidate: Candidate,
        wines: pd.DataFrame,
        folds: pd.DataFrame,
        metric: str,
        search: SearchSettings,
        deadline: float,
    ) -> None:
        self._candidate, self._wines, self._folds = candidate, wines, folds
        self._metric, self._search, self._deadline = metric, search, deadline
        self.number: int | None = None
        """Number of the trial that was begun last."""

    def __call__(self, trial: "Trial") -> float:
        import optuna

        self.number = trial.number
        # a trial's draw depends on its number alone, whichever process makes it and whenever
        trial.study.sampler = optuna.samplers.TPESampler(
            seed=int(np.random.default_rng([self._search.seed, trial.number]).integers(2**32)),
            n_startup_trials=STARTUP_TRIALS,
        )
        settings = {
            key: _suggest(trial, key, self._candidate) for key in self._candidate.search_space
        }
        twin = _known_twin(trial, self._deadline)
        if twin is not None:
            trial.set_user_attr("same_as", twin.number)
            for step, value in twin.intermediate_values.items():
                trial.report(value, step)
            if twin.state == optuna.trial.TrialState.PRUNED:
                raise optuna.TrialPruned
            return float(cast("float", twin.value))
        model = build_model(self._candidate.with_settings(settings), self._search.seed)
        values: list[float] = []
        try:
            for step, fold in enumerate(score_folds(model, self._wines, self._folds)):
                values.append(fold.scores[self._metric])
                trial.report(float(np.mean(values)), step)
                if trial.should_prune() and len(values) < self._search.folds:
                    raise optuna.TrialPruned
        except ValueError as error:
            raise WineQualityError(
                f"Candidate {self._candidate.estimator} cannot be fitted with settings {settings}: "
                f"{error} Correct its settings or search_space in the training parameters, or "
                "leave it out (enabled: false)."
            ) from error
        return float(np.mean(values))


def _suggest(trial: "Trial", key: str, candidate: Candidate) -> Any:
    space = candidate.search_space[key]
    if isinstance(space, Choices):
        return trial.suggest_categorical(key, space.choices)
    if isinstance(space, IntegerRange):
        return trial.suggest_int(key, space.low, space.high, log=space.log)
    return trial.suggest_float(key, space.low, space.high, log=space.log)


def _study_name(
    name: str, candidate: Candidate, wines: pd.DataFrame, metric: str, search: SearchSettings
) -> str:
    searched = {*candidate.search_space, "n_jobs"}
    fixed = {key: value for key, value in candidate.settings.items() if key not in searched}
    judged_by = candidate.model_dump(
        mode="json", include={"estimator", "scale", "early_stopping", "search_space"}
    ) | {"fixed": fixed, "metric": metric, "search": search.model_dump(mode="json")}
    text = json.dumps(judged_by, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name}-{fingerprint(wines)}-{digest}"


def _open_database(url: str) -> "RDBStorage":
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

    place = parse_database_url(url)
    return RDBStorage(
        place.render_as_string(hide_password=False),
        # several processes may write: they wait for each other rather than fail
        engine_kwargs={"connect_args": connect_arguments(place, 60), "pool_pre_ping": True},
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
    )


def _is_trial_missing(study: "OptunaStudy", budget: Budget, deadline: float, bar: Any) -> bool:
    """Tell whether to begin a trial; wait while others run what may be the last ones.

    A trial that is under way elsewhere counts, until it shows no sign of life any more: then it is
    put back into the queue with the settings that it had. The first trial to complete is waited
    for whatever the time, so that every search ends with a result.
    """
    from optuna.trial import TrialState

    while True:
        _put_back_stale(study)
        finished, running = _finished_and_running(study)
        values = [
            trial.value
            for trial in finished
            if trial.state == TrialState.COMPLETE and trial.value is not None
        ]
        bar.n = min(len(finished), budget.trials)
        bar.set_postfix({"best": f"{min(values):.4f}"} if values else {})
        if len(finished) >= budget.trials or (values and time.monotonic() > deadline):
            return False
        if len(finished) + len(running) < budget.trials:
            return True
        time.sleep(POLL)


def _finished_and_running(
    study: "OptunaStudy",
) -> "tuple[list[FrozenTrial], list[FrozenTrial]]":
    """Read both at one moment: a trial that another process ends meanwhile is in one of them."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    return (
        [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)],
        [t for t in trials if t.state == TrialState.RUNNING],
    )


def _put_back_stale(study: "OptunaStudy") -> None:
    """Put trials that show no sign of life back into the queue.

    Optuna passes over a trial whose process was killed before its first sign of life. After the
    grace period it is lent one, and goes stale like any other: where the clocks of two machines
    differ a trial that is alive comes to no harm.
    """
    import optuna
    import sqlalchemy as sa
    from optuna.storages._rdb.models import TrialHeartbeatModel
    from optuna.trial import TrialState
    from sqlalchemy.exc import IntegrityError

    storage = cast("Any", study._storage)
    # Optuna notes the local time, without a zone
    latest = datetime.now() - timedelta(seconds=GRACE)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.datetime_start is None or trial.datetime_start > latest:
            continue
        of_trial = TrialHeartbeatModel.trial_id == trial._trial_id
        with storage._backend.engine.connect() as connection:
            alive = connection.scalar(sa.select(TrialHeartbeatModel.trial_id).where(of_trial))
        if alive is None:
            # another process may lend it one at this moment
            with contextlib.suppress(IntegrityError):
                storage.record_heartbeat(trial._trial_id)
    optuna.storages.fail_stale_trials(study)


def _known_twin(trial: "Trial", deadline: float) -> "FrozenTrial | None":
    """Find a finished trial of the same settings: what is known is not computed again.

    One that another process began before this, with the same settings or with some still to draw,
    is waited for, but not beyond the deadline.
    """
    study, settings = trial.study, trial.params
    while True:
        finished, running = _finished_and_running(study)
        twin = next((t for t in finished if t.params == settings), None)
        awaited = any(
            t.number < trial.number and t.params.items() <= settings.items() for t in running
        )
        if twin is not None or not awaited or time.monotonic() > deadline:
            return twin
        time.sleep(POLL)
        # what was killed meanwhile is not waited for
        _put_back_stale(study)


def _run_again(study: "OptunaStudy", number: int | None) -> None:
    """Put an interrupted trial back into the queue, as the heartbeat does with a killed one.

    An interrupt leaves it as failed, and a failed trial has no heartbeat to miss.
    """
    from optuna.storages import RetryHeartbeatStaleTrialCallback
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.FAIL,)):
        if trial.number == number:
            RetryHeartbeatStaleTrialCallback()(study, trial)
