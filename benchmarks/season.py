"""Score strategies of retraining on simulated seasons whose truth is known.

    python benchmarks/season.py [--seasons 20] [--first-seed 201] [--output season.jsonl]
        [--quiet] [--strategies NAME …] [--figure docs/images/season.svg]

A season is the twelve weeks of `conf/season`: planned, drifted and labelled by the project's own
functions, with 6,497 wines of its own to begin with. Every strategy begins with the same model and
answers the same wines:

* `never`: the first model answers all weeks;
* `weekly and blind`: each week a model of all wines with a label so far, promoted as it is;
* `weekly, first edition's rule`: each week a model of the training side of these, promoted if it is
  better on the held-out side (paired bootstrap, 95 %);
* `Evidently's drift share`: as `weekly and blind`, but only after weeks in which half of the inputs
  drifted from the training wines (the default of `DataDriftPreset`);
* `this loop`: monitoring, the rules for labelled traffic, review, decision, replay and promotion,
  by the nodes of the pipelines at the settings of `conf/season`, twice a week;
* `oracle`: each week a model of as many wines as there are so far, measured and judged as in that
  week, without fault, flood or mistaken label.

Errors are root mean squared errors against the true quality of all wines of a week. The area is
that between a strategy's error and the oracle's, summed over the weeks. A promotion is wrong if
the new model errs more than the former one on 5,000 other wines of the week after it, and is still
champion after 1,000 labels. A week is spoilt if a model answers in it of whose wines more than one
in a hundred are of the fault or the flood. `--quiet` has no drift, fault or flood at all.

Each season is appended to the output, and seasons that stand there are not simulated again. Prints
Markdown; intervals are 95 %, by bootstrap over the seasons. Seeds below 200 were used while the
loop was changed.
"""

import argparse
import json
import logging
import os
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from kedro.config import OmegaConfigLoader

from wine_quality import settings as project
from wine_quality.drift.alerts import raise_alerts
from wine_quality.drift.log_reader import LABELLED_DTYPES
from wine_quality.drift.profiles import Profile, count
from wine_quality.drift.reference import Reference
from wine_quality.drift.verdict_store import VerdictStore, subject_verdicts
from wine_quality.drift.watching import Finding
from wine_quality.modelling.candidates import fit_candidate
from wine_quality.modelling.contenders import CHAMPION_PREDICTION, WINE
from wine_quality.modelling.promotion import estimate_gain, settle, weigh
from wine_quality.modelling.registry import CHAMPION, ModelRegistry
from wine_quality.modelling.splitting import hold_out
from wine_quality.pipelines.monitoring import nodes as monitoring
from wine_quality.pipelines.parameters import ProjectParameters, check_parameters
from wine_quality.pipelines.processing import nodes as processing
from wine_quality.pipelines.processing.reading import LINE, SOURCE
from wine_quality.pipelines.retraining import nodes as retraining
from wine_quality.pipelines.training import nodes as training
from wine_quality.retraining.decision_store import DecisionStore
from wine_quality.traffic.ground_truth import LABELLED_AT, judge_wines
from wine_quality.traffic.planning import EVENT_TIME, POOL_ROWS, plan_traffic
from wine_quality.traffic.scenarios import Scenario, inject_drift
from wine_quality.traffic.sender import SIMULATION
from wine_quality.traffic.streams import derive_seed
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import INPUTS, PREDICTION, QUALITY, wine_hashes

WEEKS, RAW_ROWS, PROBE_ROWS = 12, 6_497, 5_000
LOOP_AFTER_DAYS = (3, 7)
"""Days of a week after which the loop runs; it ships with every night."""
STAYS_LONGER = 1_000
"""Labels after which a worse model should be gone."""
MOST_GARBAGE = 0.01
LABEL = "label"
GARBAGE = "garbage"
Answer = Callable[[pd.DataFrame], np.ndarray]


@dataclass(frozen=True)
class Week:
    """A week, with the truth about it.

    Attributes:
        start: Its start, UTC.
        traffic: Its wines: inputs as they are measured, true `quality`, the `label` that is handed
            in (NaN: none) and when, event time, source, and whether they are `garbage`.
        probe: Other wines of the week, without garbage.
        ideal: Wines of the weeks before, and those of the beginning, as they would be measured and
            judged in this week.
    """

    start: datetime
    traffic: pd.DataFrame
    probe: pd.DataFrame
    ideal: pd.DataFrame


@dataclass(frozen=True)
class Season:
    """A season's wines: those of the beginning, and those of each week."""

    seed: int
    raw: pd.DataFrame
    weeks: tuple[Week, ...]


@dataclass(frozen=True)
class Answering:
    """A model that answers.

    Attributes:
        answer: Predicts wines.
        garbage: Share of garbage among the wines that it was fitted on.
    """

    answer: Answer
    garbage: float


@dataclass
class Result:
    """What a strategy came to in a season.

    Attributes:
        errors: Root mean squared error by week.
        promotions: Times that another model began to answer, models that came back left out.
        wrong: Those that made it worse for longer than `STAYS_LONGER` labels.
        spoilt: Weeks in which a model answered that had learnt garbage.
        trained: Models that were trained.
        undone: Promotions that were taken back.
    """

    errors: list[float]
    promotions: int = 0
    wrong: int = 0
    spoilt: int = 0
    trained: int = 0
    undone: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seasons", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=201)
    parser.add_argument("--quiet", action="store_true", help="a season without any change")
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), default=[*STRATEGIES])
    parser.add_argument("--output", type=Path, help="file that results are appended to, and reused")
    parser.add_argument("--figure", type=Path, help="file to draw the error by week to")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    output = arguments.output.absolute() if arguments.output else None
    figure = arguments.figure.absolute() if arguments.figure else None
    parameters = read_parameters()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seasons)
    found = dict(read_results(output))
    began = time.process_time()
    with tempfile.TemporaryDirectory(prefix="wine-quality-season-") as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.create_experiment("season", artifact_location=f"{folder}/artifacts")
        mlflow.set_experiment("season")
        for seed in seeds:
            missing = [s for s in arguments.strategies if (seed, arguments.quiet, s) not in found]
            season = make_season(parameters, seed, arguments.quiet) if missing else None
            for name in missing:
                key = (seed, arguments.quiet, name)
                found[key] = live_through(season, STRATEGIES[name](season, parameters, folder))
                if output:
                    with output.open("a", encoding="utf-8") as file:
                        row = {"seed": seed, "quiet": arguments.quiet, "strategy": name}
                        file.write(json.dumps(row | asdict(found[key])) + "\n")
    chosen = {
        name: [found[seed, arguments.quiet, name] for seed in seeds]
        for name in arguments.strategies
    }
    print_table(chosen)
    if figure:
        draw(chosen, figure)
    seconds = time.process_time() - began
    print(f"\n{len(seeds)} seasons, seeds from {seeds[0]}, {seconds:.0f} CPU seconds")
    return 0


def read_parameters() -> ProjectParameters:
    os.chdir(Path(__file__).parents[1])
    loader = OmegaConfigLoader(conf_source="conf", env="season", **project.CONFIG_LOADER_ARGS)
    return check_parameters(loader["parameters"])


def read_results(output: Path | None) -> Iterator[tuple[tuple[int, bool, str], Result]]:
    if output is None or not output.exists():
        return
    for line in output.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield (row.pop("seed"), row.pop("quiet"), row.pop("strategy")), Result(**row)


def make_season(parameters: ProjectParameters, seed: int, quiet: bool) -> Season:
    """Draw a season's wines."""
    simulation = parameters.serving_simulation
    first, length = simulation.event_time.start, timedelta(hours=simulation.event_time.hours)
    scenarios = {} if quiet else simulation.drift.active()
    clean = {name: one for name, one in scenarios.items() if not is_garbage(one)}
    raw = draw_wines(RAW_ROWS, derive_seed(seed, "raw"), duplicates=True, missing=True)
    weeks: list[Week] = []
    before = raw
    for number in range(WEEKS):
        start, own = first + number * length, derive_seed(seed, "period", number)
        plan = partial(plan_traffic, None, start=start, duration=length)
        planned, others = (
            pd.concat(plan(samples=rows, seed=of, rhythm=simulation.event_time.rhythm))
            for rows, of in ((simulation.samples, own), (PROBE_ROWS, derive_seed(own, "probe")))
        )
        moments = planned[EVENT_TIME].to_numpy()[np.arange(len(before)) % len(planned)]
        ideal = before.assign(**{EVENT_TIME: pd.to_datetime(moments, utc=True)})
        # wines of their own for each purpose: a model must not meet those it was fitted on
        sent, true, probe, ideal = (
            drift(frame, chosen, start, derive_seed(own, purpose))
            for frame, chosen, purpose in (
                (planned, scenarios, "traffic"),
                (planned, clean, "traffic"),
                (others, clean, "probe"),
                (ideal, clean, "ideal"),
            )
        )
        weeks.append(Week(start, label(sent, true, number, parameters, own), probe, ideal))
        before = pd.concat([before, planned[[*INPUTS, QUALITY]]], ignore_index=True)
    return Season(seed, raw.assign(**{SOURCE: "raw.csv", LINE: 0}), tuple(weeks))


def drift(
    wines: pd.DataFrame, scenarios: Mapping[str, Scenario], start: datetime, seed: int
) -> pd.DataFrame:
    pool = draw_wines(POOL_ROWS, seed)
    return pd.concat(inject_drift([wines], pool, scenarios, start=start, seed=seed))


def is_garbage(scenario: Scenario) -> bool:
    return scenario.expected == "data_quality" or scenario.kind == "wrong_labels"


def label(
    sent: pd.DataFrame, true: pd.DataFrame, week: int, parameters: ProjectParameters, seed: int
) -> pd.DataFrame:
    """Hand the week's labels in."""
    ids = pd.Series([f"{week:02d}-{k:05d}" for k in sent.index], sent.index)
    receipts = sent.assign(prediction_id=ids, acknowledged=True)
    labels = pd.concat(judge_wines([receipts], parameters.serving_simulation.ground_truth, seed))
    said = labels.drop_duplicates("prediction_id").set_index("prediction_id").reindex(ids)
    source = sent.get(SOURCE, pd.Series(SIMULATION, sent.index)).fillna(SIMULATION)
    wrong = (sent[list(INPUTS)].fillna(-1) != true[list(INPUTS)].fillna(-1)).any(axis=1)
    return sent.assign(
        **{
            QUALITY: true[QUALITY],
            LABEL: said[QUALITY].to_numpy(float),
            LABELLED_AT: said[LABELLED_AT].to_numpy(),
            SOURCE: source,
            GARBAGE: wrong | (source != SIMULATION),
            "prediction_id": ids,
        }
    ).astype({LABELLED_AT: "datetime64[us, UTC]"})


class Strategy(ABC):
    """Decides which model answers.

    Attributes:
        model: It.
        trained: Models that were trained.
        undone: Promotions that were taken back.
    """

    def __init__(self, season: Season, parameters: ProjectParameters, folder: str) -> None:
        self.season, self.parameters, self.folder = season, parameters, folder
        self.trained = self.undone = 0
        (self.candidate,) = (c for c in parameters.training.candidates.values() if c.enabled)
        self.split = parameters.processing.split
        self.model = self.begin()

    def begin(self) -> Answering:
        """Fit the first model, on the training side of the wines of the beginning."""
        return self.fit(self.training_side(self.season.raw.assign(**{GARBAGE: False})))

    def fit(self, wines: pd.DataFrame) -> Answering:
        model = fit_candidate(self.candidate, wines, self.season.seed).model
        return Answering(lambda rows: model.predict(rows[list(INPUTS)]), wines[GARBAGE].mean())

    def training_side(self, wines: pd.DataFrame, held_out: bool = False) -> pd.DataFrame:
        side = hold_out(wines, self.split.held_out_share, self.split.seed)
        return wines[side if held_out else ~side]

    def labelled(self, traffic: pd.DataFrame) -> pd.DataFrame:
        """All wines with a label, those of the beginning first."""
        raw = self.season.raw.assign(**{GARBAGE: False})
        said = traffic.assign(**{QUALITY: traffic[LABEL].astype(int)})
        columns = [*INPUTS, QUALITY, GARBAGE]
        return pd.concat([raw[columns], said[columns]], ignore_index=True)

    def answered(self, wines: pd.DataFrame, prediction: np.ndarray) -> None:  # noqa: B027
        """Take note of what was answered."""

    @abstractmethod
    def learn(self, number: int, now: pd.Timestamp, traffic: pd.DataFrame) -> None:
        """Choose a model after a week, or a part of it.

        Args:
            number: The week.
            now: The present.
            traffic: The wines with a label by now.
        """


class Never(Strategy):
    def learn(self, number: int, now: pd.Timestamp, traffic: pd.DataFrame) -> None:
        pass


class Weekly(Strategy):
    """Trains when a week is over."""

    def learn(self, number: int, now: pd.Timestamp, traffic: pd.DataFrame) -> None:
        week = self.season.weeks[number]
        is_over = now >= week.start + timedelta(days=7)
        if is_over and self.is_asked_for(week, traffic):
            self.trained += 1
            self.model = self.choose(number, traffic)

    def is_asked_for(self, week: Week, traffic: pd.DataFrame) -> bool:
        return True

    def choose(self, number: int, traffic: pd.DataFrame) -> Answering:
        return self.fit(self.labelled(traffic))


class FirstEdition(Weekly):
    def choose(self, number: int, traffic: pd.DataFrame) -> Answering:
        wines = self.labelled(traffic)
        new, held_out = self.fit(self.training_side(wines)), self.training_side(wines, True)
        pairs = held_out.assign(
            **{
                WINE: wine_hashes(held_out),
                PREDICTION: new.answer(held_out),
                CHAMPION_PREDICTION: self.model.answer(held_out),
            }
        )
        gain = estimate_gain(weigh(pairs, None, 0.0), self.season.seed, "rmse")
        return new if gain.low > 0 else self.model


class EvidentlyTrigger(Weekly):
    """Compares a week with the wines that the model was fitted on."""

    def begin(self) -> Answering:
        self.reference = self.training_side(self.season.raw)[list(INPUTS)]
        return super().begin()

    def is_asked_for(self, week: Week, traffic: pd.DataFrame) -> bool:
        from evidently import Report
        from evidently.metrics import DriftedColumnsCount

        # what `DataDriftPreset` computes as well, beside what it draws
        report = Report([DriftedColumnsCount()]).run(week.traffic[list(INPUTS)], self.reference)
        (found,) = report.dict()["metrics"]
        return bool(found["value"]["share"] >= found["config"]["drift_share"])

    def choose(self, number: int, traffic: pd.DataFrame) -> Answering:
        self.reference = self.labelled(traffic)[list(INPUTS)]
        return super().choose(number, traffic)


class Oracle(Strategy):
    """Knows the week that comes."""

    def begin(self) -> Answering:
        return self.fit(self.season.weeks[0].ideal.assign(**{GARBAGE: False}))

    def learn(self, number: int, now: pd.Timestamp, traffic: pd.DataFrame) -> None:
        if now >= self.season.weeks[number].start + timedelta(days=7) and number + 1 < WEEKS:
            self.trained += 1
            self.model = self.fit(self.season.weeks[number + 1].ideal.assign(**{GARBAGE: False}))


@dataclass(frozen=True)
class Labelled:
    """The labelled predictions of a log at hand, as `processing` asks for them."""

    rows: pd.DataFrame

    def newest(self, most: int) -> pd.DataFrame:
        return self.rows.iloc[-most:].reset_index(drop=True)


@dataclass(frozen=True)
class Counted:
    """The counts of a log at hand, as `monitoring` asks for them."""

    log: pd.DataFrame

    def load(self, version: str, reference: Reference, grain: int) -> Profile:
        return count(self.log[self.log["model_version"] == version], reference, grain)


class Loop(Strategy):
    """The project's own."""

    def begin(self) -> Answering:
        self.name = f"season-{self.season.seed}-{time.monotonic_ns()}"
        url = f"sqlite:///{self.folder}/{self.name}.db"
        self.registry = ModelRegistry(self.name)
        self.verdicts, self.decisions = VerdictStore(url), DecisionStore(url)
        self.references: dict[str, dict[str, Any]] = {}
        self.models: dict[str, Answering] = {}
        self.log = pd.DataFrame()
        self.reasons: list[str] = []
        accepted, settings = self.season.raw, self.parameters.training
        self.audit = processing.audit_wines(accepted, accepted.iloc[:0].assign(reason=""))
        wines, held_out = processing.split_wines(accepted, self.parameters.processing)
        folds = training.assign_folds(wines, settings.comparison)
        found = training.cross_validate_candidate(
            wines, folds, self.candidate, {}, settings.comparison
        )
        scores = {"candidate": found}
        table = training.compare_candidates(folds, settings.comparison, **scores)
        model = training.fit_best_candidate(wines, table, settings.comparison, **scores)
        reference = training.predict_held_out(model, held_out)
        profile = training.describe_reference(wines, reference, table, **scores)
        described = training.describe_version(
            model, reference, training.evaluate_model(reference), table, wines, profile, "", "",
            **scores,
        )  # fmt: skip
        with mlflow.start_run():
            version = self.registry.register(described)
        settle(self.registry, version, reference, settings.comparison.seed)
        return self.champion()

    def champion(self) -> Answering:
        version = self.registry.version(CHAMPION)
        assert version is not None
        self.version = version.version
        if self.version not in self.models:
            model = self.registry.champion(version).model
            fitted = self.registry.fitted_wines(version)
            garbage = pd.concat([week.traffic for week in self.season.weeks])
            learnt = np.isin(fitted, wine_hashes(garbage[garbage[GARBAGE]])).mean()
            self.models[self.version] = Answering(
                lambda rows: model.predict(rows[list(INPUTS)]), float(learnt)
            )
            self.references[self.version] = self.registry.reference_profile(self.version)
        return self.models[self.version]

    def answered(self, wines: pd.DataFrame, prediction: np.ndarray) -> None:
        rows = wines.assign(**{PREDICTION: prediction, "model_version": self.version})
        self.log = pd.concat([self.log, rows], ignore_index=True)

    def learn(self, number: int, now: pd.Timestamp, traffic: pd.DataFrame) -> None:
        parameters = self.parameters
        known = self.log[LABEL].where(self.log[LABELLED_AT] <= now)
        log = self.log.assign(**{QUALITY: known})
        verdicts, model_verdicts, findings = monitoring.judge_windows(
            Counted(log), self.references, {}, parameters.monitoring.drift,
            parameters.monitoring.alerts,
        )  # fmt: skip
        window = parameters.monitoring.drift.window
        self.verdicts.record(subject_verdicts(verdicts, model_verdicts, window), now)
        alerts = raise_alerts([Finding(**finding) for finding in findings], verdicts)
        labelled = log[known.notna()][list(LABELLED_DTYPES)].astype(LABELLED_DTYPES)
        usable, _, _ = processing.sort_traffic(
            self.season.raw, Labelled(labelled), self.verdicts, parameters.retraining
        )
        wines, held_out = processing.split_wines(usable, parameters.processing)
        registry, store = self.registry, self.decisions
        review = retraining.review_champion(
            usable, registry, parameters.training, parameters.monitoring.alerts
        )
        plain = [alert.to_dict() for alert in alerts]
        claim = retraining.decide_to_retrain(
            review, usable, plain, model_verdicts, registry, store, parameters.retraining
        )
        with mlflow.start_run():
            retrained = retraining.retrain_champion(
                claim, wines, held_out, registry, self.audit,
                processing.audit_split(wines, held_out), parameters.training,
            )  # fmt: skip
            outcome, _ = retraining.settle_retraining(
                claim, review, retrained, usable, registry, store, parameters.training,
                parameters.promotion,
            )  # fmt: skip
        self.trained += outcome["version"] is not None
        self.undone += review.undone
        self.reasons.append(f"{now:%m-%d} {outcome['reason']} | {outcome['outcome']}")
        self.model = self.champion()


STRATEGIES: Mapping[str, type[Strategy]] = {
    "never": Never,
    "weekly and blind": Weekly,
    "weekly, first edition's rule": FirstEdition,
    "Evidently's drift share": EvidentlyTrigger,
    "this loop": Loop,
    "oracle": Oracle,
}


def live_through(season: Season, strategy: Strategy) -> Result:
    """Have a strategy answer all weeks."""
    together = pd.concat([week.traffic for week in season.weeks], ignore_index=True)
    result = Result([])
    answering = [(0, strategy.model)]
    for number, week in enumerate(season.weeks):
        squares = []
        spoilt = False
        begin = week.start
        for days in LOOP_AFTER_DAYS:
            now = week.start + timedelta(days=days)
            own = week.traffic[week.traffic[EVENT_TIME].between(begin, now, inclusive="left")]
            prediction = np.asarray(strategy.model.answer(own), dtype=float)
            spoilt |= bool(strategy.model.garbage > MOST_GARBAGE)
            squares.append((prediction - own[QUALITY]) ** 2)
            strategy.answered(own, prediction)
            before, begin = strategy.model, now
            present = pd.Timestamp(now)
            labelled = together[together[LABELLED_AT] <= present]
            strategy.learn(number, present, labelled)
            if strategy.model is not before:
                answering.append((len(labelled), strategy.model))
        result.errors.append(float(np.sqrt(pd.concat(squares).mean())))
        result.spoilt += spoilt
    result.trained, result.undone = strategy.trained, strategy.undone
    add_promotions(season, answering, len(together[together[LABEL].notna()]), result)
    return result


def add_promotions(
    season: Season, answering: list[tuple[int, Answering]], labels: int, result: Result
) -> None:
    """Count the promotions, and those that made it worse.

    Args:
        season: The season.
        answering: The models in their order, and how many labels there were when they began.
        labels: Labels in the whole season.
        result: Where to add them.
    """
    ends = [at for at, _ in answering[1:]] + [labels]
    seen = [answering[0][1]]
    for (_, former), (at, new), end in zip(answering, answering[1:], ends[1:], strict=False):
        if any(new is one for one in seen):
            continue
        seen.append(new)
        result.promotions += 1
        week = season.weeks[min(WEEKS - 1, int(at / labels * WEEKS) + 1)]
        quality = week.probe[QUALITY].to_numpy(float)
        worse, better = (
            float(((model.answer(week.probe) - quality) ** 2).mean()) for model in (new, former)
        )
        result.wrong += worse > better and end - at > STAYS_LONGER


def print_table(results: Mapping[str, list[Result]]) -> None:
    """Print a row for each strategy."""
    oracle = results.get("oracle")
    print(
        "| strategy | mean error | above the oracle | of never's | of blind's | models trained "
        "| promotions | undone | wrong promotions | weeks spoilt | seasons with garbage |"
    )
    print("|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    areas = {
        name: np.array(
            [
                sum(np.subtract(one.errors, best.errors))
                for one, best in zip(own, oracle or own, strict=True)
            ]
        )
        for name, own in results.items()
    }
    for name, own in results.items():
        errors = np.array([np.mean(one.errors) for one in own])
        shares = [
            share_cell(areas[name], areas[other]) if other in areas else "–"
            for other in ("never", "weekly and blind")
        ]
        counts = [
            mean_cell(np.array([getattr(one, what) for one in own]))
            for what in ("trained", "promotions", "undone", "wrong", "spoilt")
        ]
        learnt = sum(one.spoilt > 0 for one in own)
        cells = [name, mean_cell(errors, 3), mean_cell(areas[name]), *shares, *counts]
        print(f"| {' | '.join(cells)} | {learnt} of {len(own)} |")


def mean_cell(values: np.ndarray, digits: int = 2) -> str:
    low, high = np.quantile(resample(len(values)) @ values, [0.025, 0.975])
    return f"{values.mean():.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def share_cell(values: np.ndarray, others: np.ndarray) -> str:
    if not others.mean():
        return "–"
    weights = resample(len(values))
    low, high = np.quantile((weights @ values) / (weights @ others), [0.025, 0.975])
    return f"{values.mean() / others.mean():.0%} ({low:.0%}–{high:.0%})"


def resample(n: int) -> np.ndarray:
    """Weights of the seasons in 2,000 bootstrap samples."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), 2000) / n


def draw(results: Mapping[str, list[Result]], path: Path) -> None:
    """Draw the mean error by week of all strategies."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "season"
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, own in results.items():
        style = {"color": "black", "linestyle": ":"} if name == "oracle" else {}
        width = 2.5 if name == "this loop" else 1.2
        errors = np.mean([one.errors for one in own], axis=0)
        axes.plot(range(1, WEEKS + 1), errors, marker=".", label=name, linewidth=width, **style)
    axes.set(xlabel="week", ylabel="root mean squared error", xticks=range(1, WEEKS + 1))
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    raise SystemExit(main())
