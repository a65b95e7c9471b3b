"""Searches a candidate's settings; what it finds is kept in a database and outlives a kill."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
from wine_quality.modelling.candidates import (
    Candidate,
    Choices,
    IntegerRange,
    SearchRange,
    build_model,
)
from wine_quality.modelling.evaluation import score_folds
from wine_quality.parameters import Parameters
from wine_quality.wines import fingerprint

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna import Trial
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial, TrialState

HEARTBEAT = 5
"""Seconds between two signs of life of a trial under way."""
GRACE = 30
"""Seconds without a sign of life after which a trial counts as interrupted."""
POLL = 0.5
"""Seconds between two looks at trials that run elsewhere."""
SIGN_OF_LIFE = "sign_of_life"
"""Attribute of a trial: a number that grows while it runs."""
CONFIGURED = "configured"
"""Attribute of the trial of the settings as configured: these settings, in the space or not."""
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
        scale: Whether its measurements were standardised.
        early_stopping: How it stopped early; None if it did not.
        configured: Its settings as configured, where the search started.
        training_wines: Fingerprint of the wines that it was judged on.
        study: Name of the study.
        metric: Name of what was minimised.
        finished: Number of trials that completed or were pruned.
        pruned: How many of these were pruned.
        configured_value: Metric of the settings as configured, on the same folds.
        value: Metric of the best settings; not below `configured_value` if these are the ones as
            configured.
        settings: The best settings.
    """

    candidate: str
    estimator: str
    scale: bool
    early_stopping: dict[str, Any] | None
    configured: dict[str, Any]
    training_wines: str
    study: str
    metric: str
    finished: int
    pruned: int
    configured_value: float
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
        The settings as configured are always a trial, whether or not the space holds them.

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
        from tqdm import tqdm

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        name = _study_name(self.candidate, candidate, wines, metric, search)
        deadline = time.monotonic() + 60 * budget.minutes
        study = self._open(name, search)
        running = _Search(study, candidate, wines, folds, metric, search, deadline)
        title = f"tuning {self.candidate}"
        with tqdm(total=budget.trials, desc=title, unit="trial", disable=None) as bar:
            while running.is_trial_missing(budget.trials, bar):
                trial = running.run_trial()
                if trial is not None and self.watch:
                    self.watch(self._finished(name, trial))
        return self._best(name, running, candidate, wines, metric)

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

    def _finished(self, study: str, trial: "FrozenTrial") -> FinishedTrial:
        duration = trial.duration
        return FinishedTrial(
            candidate=self.candidate,
            study=study,
            number=trial.number,
            state=trial.state.name.lower(),
            settings=_tried(trial),
            # a pruned trial has the value of its last fold, which is no mean over all
            value=trial.value if trial.state.name == "COMPLETE" else None,
            values=tuple(value for _, value in sorted(trial.intermediate_values.items())),
            seconds=duration.total_seconds() if duration else 0.0,
        )

    def _best(
        self,
        study: str,
        search: "_Search",
        candidate: Candidate,
        wines: pd.DataFrame,
        metric: str,
    ) -> BestSettings:
        finished, _ = search.finished_and_running()
        complete = [trial for trial in finished if _is_complete(trial)]
        # where several are the best, the settings as configured are, then the first
        best = min(complete, key=lambda t: (_value(t), not search.is_as_configured(t), t.number))
        stopping = candidate.early_stopping
        return BestSettings(
            candidate=self.candidate,
            estimator=candidate.estimator,
            scale=candidate.scale,
            early_stopping=stopping.model_dump(mode="json") if stopping else None,
            configured=dict(candidate.settings),
            training_wines=fingerprint(wines),
            study=study,
            metric=metric,
            finished=len(finished),
            pruned=len(finished) - len(complete),
            configured_value=min(_value(t) for t in complete if search.is_as_configured(t)),
            value=_value(best),
            settings=_tried(best),
        )


class _Search:
    """Runs the trials of a study, beside other processes that may do so as well.

    Args:
        study: The study.
        candidate: See `Study.tune`, as the others.
        wines: Training wines.
        folds: Their folds.
        metric: What to minimise.
        search: How to search.
        deadline: Moment of `time.monotonic` after which no trial begins but the one that has to be.
    """

    def __init__(
        self,
        study: "OptunaStudy",
        candidate: Candidate,
        wines: pd.DataFrame,
        folds: pd.DataFrame,
        metric: str,
        search: SearchSettings,
        deadline: float,
    ) -> None:
        self._study, self._candidate = study, candidate
        self._wines, self._folds, self._metric = wines, folds, metric
        self._search, self._deadline = search, deadline
        self._signs: dict[int, tuple[object, float]] = {}
        searched = {
            key: candidate.settings[key]
            for key in candidate.search_space
            if key in candidate.settings
        }
        # as the database gives them back
        self._configured: dict[str, Any] = json.loads(json.dumps(searched))

    def is_trial_missing(self, trials: int, bar: Any) -> bool:
        """Tell whether to begin a trial; wait while others run what may be the last ones.

        A trial that is under way elsewhere counts, until it shows no sign of life any more: then it
        is put back into the queue with the settings that it had. The settings as configured are
        waited for whatever the time and the number of trials, so that what is found can be compared
        with them.

        Args:
            trials: Finished trials that the study shall have.
            bar: Shows the progress.
        """
        while True:
            self._put_back_stale()
            is_queued = self._queue_configured()
            finished, running = self.finished_and_running()
            complete = [trial for trial in finished if _is_complete(trial)]
            bar.n = min(len(finished), trials)
            bar.set_postfix({"best": f"{min(map(_value, complete)):.4f}"} if complete else {})
            is_late = time.monotonic() > self._deadline
            if any(map(self.is_as_configured, complete)):
                if is_late or len(finished) >= trials:
                    return False
            elif is_queued:
                return True
            if not is_late and len(finished) + len(running) < trials:
                return True
            time.sleep(POLL)

    def run_trial(self) -> "FrozenTrial | None":
        """Run the next trial to its end; None where another process has ended it meanwhile."""
        import optuna
        from optuna.trial import TrialState

        trial = self._study.ask()
        # a trial's draw depends on its number alone, whichever process makes it and whenever
        self._study.sampler = optuna.samplers.TPESampler(
            seed=int(np.random.default_rng([self._search.seed, trial.number]).integers(2**32)),
            n_startup_trials=STARTUP_TRIALS,
        )
        try:
            value = self._judge(trial)
        except optuna.TrialPruned:
            return self._end(trial.number, TrialState.PRUNED)
        except optuna.exceptions.UpdateFinishedTrialError:
            return None
        except BaseException as error:
            ended = self._end(trial.number, TrialState.FAIL)
            if ended is not None and isinstance(error, KeyboardInterrupt):
                self._queue_again(ended)
            raise
        return self._end(trial.number, TrialState.COMPLETE, value)

    def finished_and_running(self) -> "tuple[list[FrozenTrial], list[FrozenTrial]]":
        """Read both at one moment: a trial that ends meanwhile is in one of them."""
        from optuna.trial import TrialState

        trials = self._study.get_trials(deepcopy=False)
        return (
            [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)],
            [t for t in trials if t.state == TrialState.RUNNING],
        )

    def is_as_configured(self, trial: "FrozenTrial") -> bool:
        """Tell whether a trial tries the settings as configured."""
        named = CONFIGURED in trial.user_attrs or self._holds(self._configured)
        return named and _tried(trial) == self._configured

    def _holds(self, settings: Mapping[str, Any]) -> bool:
        """Tell whether settings are a point of the search space."""
        space = self._candidate.search_space
        return settings.keys() == space.keys() and all(
            space[key].holds(value) for key, value in settings.items()
        )

    def _queue_configured(self) -> bool:
        """Have the settings as configured tried, in whole; tell whether they wait for it."""
        from optuna.trial import TrialState

        states = {
            trial.state
            for trial in self._study.get_trials(deepcopy=False)
            if self.is_as_configured(trial)
        }
        if not states & {TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING}:
            inside = self._configured if self._holds(self._configured) else {}
            self._study.enqueue_trial(inside, user_attrs={CONFIGURED: self._configured})
            return True
        return TrialState.WAITING in states

    def _queue_again(self, trial: "FrozenTrial") -> None:
        """Put a trial that was interrupted back into the queue, with the settings that it had."""
        kept = {key: trial.user_attrs[key] for key in (CONFIGURED,) if key in trial.user_attrs}
        self._study.enqueue_trial(trial.params, user_attrs=kept)

    def _end(
        self, number: int, state: "TrialState", value: float | None = None
    ) -> "FrozenTrial | None":
        """End a trial; None where another process was faster.

        That happens where both had taken it from the queue, as SQLite locks no rows, and where this
        process was held up for too long to seem alive.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            return self._study.tell(number, value, state)
        except (UpdateFinishedTrialError, ValueError):
            return None

    def _put_back_stale(self) -> None:
        """Put trials that show no sign of life back into the queue.

        Their signs are compared with each other by this process's clock alone: clocks of several
        machines differ, and a trial may be killed before its first sign.
        """
        from optuna.trial import TrialState

        now = time.monotonic()
        _, running = self.finished_and_running()
        for trial in running:
            sign = (
                trial.user_attrs.get(SIGN_OF_LIFE),
                len(trial.params),
                len(trial.intermediate_values),
            )
            seen, since = self._signs.get(trial.number, (None, now))
            if sign != seen:
                self._signs[trial.number] = (sign, now)
            elif now - since > GRACE and self._end(trial.number, TrialState.FAIL):
                self._queue_again(trial)

    def _judge(self, trial: "Trial") -> float:
        """Cross-validate the settings of a trial, fold by fold."""
        import optuna

        configured = trial.user_attrs.get(CONFIGURED)
        with _living(trial):
            if configured is not None and not self._holds(configured):
                settings = configured
            else:
                space = self._candidate.search_space
                settings = {key: _suggest(trial, key, space[key]) for key in space}
            twin = self._known_twin(trial.number, settings, whole=configured is not None)
            if twin is not None:
                trial.set_user_attr("same_as", twin.number)
                for step, value in twin.intermediate_values.items():
                    trial.report(value, step)
                if not _is_complete(twin):
                    raise optuna.TrialPruned
                return _value(twin)
            return self._cross_validate(trial, settings, whole=configured is not None)

    def _cross_validate(self, trial: "Trial", settings: dict[str, Any], whole: bool) -> float:
        import optuna

        fixed = {
            key: value
            for key, value in self._candidate.settings.items()
            if key not in self._candidate.search_space
        }
        tried = self._candidate.model_copy(update={"settings": fixed | settings})
        model = build_model(tried, self._search.seed)
        values: list[float] = []
        try:
            for step, fold in enumerate(score_folds(model, self._wines, self._folds)):
                values.append(fold.scores[self._metric])
                trial.report(float(np.mean(values)), step)
                # what all others are compared with is judged on every fold
                if not whole and trial.should_prune() and len(values) < self._search.folds:
                    raise optuna.TrialPruned
        except ValueError as error:
            raise WineQualityError(
                f"Candidate {self._candidate.estimator} cannot be fitted with settings {settings}: "
                f"{error} Correct its settings or search_space in the training parameters, or "
                "leave it out (enabled: false)."
            ) from error
        return float(np.mean(values))

    def _known_twin(
        self, number: int, settings: dict[str, Any], whole: bool
    ) -> "FrozenTrial | None":
        """Find a finished trial of the same settings: what is known is not computed again.

        One that another process began before this, with the same settings or with some still to
        draw, is waited for, but not beyond the deadline.

        Args:
            number: Number of the trial that looks for one.
            settings: Its settings.
            whole: Whether the twin has to be judged on every fold.
        """
        while True:
            finished, running = self.finished_and_running()
            twin = next(
                (
                    trial
                    for trial in finished
                    if _tried(trial) == settings and (_is_complete(trial) or not whole)
                ),
                None,
            )
            awaited = any(trial.number < number and _may_try(trial, settings) for trial in running)
            if twin is not None or not awaited or time.monotonic() > self._deadline:
                return twin
            time.sleep(POLL)
            # what was killed meanwhile is not waited for
            self._put_back_stale()


@contextmanager
def _living(trial: "Trial") -> Iterator[None]:
    """Have a trial show signs of life while the block runs."""
    ended = threading.Event()

    def show() -> None:
        sign = 0
        while not ended.wait(HEARTBEAT):
            sign += 1
            # a sign that cannot be stored is one that is missing
            with suppress(Exception):
                trial.set_user_attr(SIGN_OF_LIFE, sign)

    thread = threading.Thread(target=show, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tried(trial: "FrozenTrial") -> dict[str, Any]:
    """Give the settings that a trial tries, as far as they are drawn."""
    settings: dict[str, Any] = trial.user_attrs.get(CONFIGURED, trial.params)
    return settings


def _may_try(trial: "FrozenTrial", settings: Mapping[str, Any]) -> bool:
    """Tell whether a trial under way tries these settings, or may come to draw them."""
    if CONFIGURED in trial.user_attrs:
        return bool(_tried(trial) == settings)
    return trial.params.items() <= settings.items()


def _is_complete(trial: "FrozenTrial") -> bool:
    from optuna.trial import TrialState

    return trial.state == TrialState.COMPLETE


def _value(trial: "FrozenTrial") -> float:
    return cast("float", trial.value)


def _suggest(trial: "Trial", key: str, space: SearchRange) -> Any:
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
    from optuna.storages import RDBStorage

    place = parse_database_url(url)
    return RDBStorage(
        place.render_as_string(hide_password=False),
        # several processes may write: they wait for each other rather than fail
        engine_kwargs={"connect_args": connect_arguments(place, 60), "pool_pre_ping": True},
    )
