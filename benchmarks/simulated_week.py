"""Score the monitor on simulated weeks whose drift is known: delay to detection, false alarms.

    python benchmarks/simulated_week.py [--weeks N]         # many weeks, each with its own model
    python benchmarks/simulated_week.py --run data/week     # the week of `kedro run --env week`

The weeks are those of `conf/week`: planned, drifted and labelled by the project's own functions,
answered by extra trees that were fitted to other synthetic wines, and judged at the settings of
`conf/base`. Prints Markdown. Intervals of shares are Wilson's, of counts Garwood's, 95 %.

An alert is of a drift if it is about the drift's subject, in a window that the drift touches. The
predictions and the model's errors may follow any drift; alerts about them are false only in windows
that no drift touches, alerts about a column in all windows that its own drift does not touch.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro.config import OmegaConfigLoader
from scipy import stats
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from wine_quality import settings as project
from wine_quality.drift.alerts import Alert, AlertSettings, raise_alerts
from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profiles import Reference, profile_windows
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import decide
from wine_quality.pipelines.parameters import ProjectParameters, check_parameters
from wine_quality.pipelines.serving_simulation.parameters import SimulationParameters
from wine_quality.traffic.ground_truth import judge_wines
from wine_quality.traffic.planning import POOL_ROWS, plan_traffic
from wine_quality.traffic.scenarios import describe_drift, inject_drift
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import MEASUREMENT_NAMES, PREDICTION, QUALITY, TYPE

SEED = 20_260_101
FITTED, SAMPLE = 5_197, 6_497
RULES = (AlertSettings(after=1, of=1), AlertSettings(after=2, of=3))
WINDOWS = ("1h", "6h")
FOLLOWING = (PREDICTION, "model")
"""Subjects that may follow any drift."""
Truth = list[dict[str, Any]]
Drift = tuple[str, str]
"""A drift of one period: the period's start, and the drift's name."""


@dataclass(frozen=True)
class Score:
    """What the alerts of one week were worth.

    Attributes:
        delays: Hours from a drift's onset to the end of the first window that tells of it, by the
            start of the drift's period and its name; NaN if none does.
        hits: Windows in which a drift that works in full is told of, and all such windows, by the
            same.
        false_alarms: Windows with a false alert about a column, about the model's errors or the
            predictions.
        quiet: Windows that no drift touches.
        windows: All windows.
    """

    delays: Mapping[Drift, float]
    hits: Mapping[Drift, tuple[int, int]]
    false_alarms: int
    quiet: int
    windows: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--weeks", type=int, default=20, help="simulated weeks")
    parser.add_argument("--run", type=Path, help="root of a finished `kedro run --env week`")
    arguments = parser.parse_args()
    parameters = read_parameters()
    if arguments.run:
        print_run(arguments.run, parameters)
        return 0
    began = time.perf_counter()
    scores: dict[tuple[str, AlertSettings], list[Score]] = {}
    for week in range(arguments.weeks):
        for setting, result in simulate(parameters, SEED + week):
            scores.setdefault(setting, []).append(result)
    print_scores(scores)
    seconds = time.perf_counter() - began
    print(f"\n{arguments.weeks} weeks, seeds from {SEED}, {seconds:.0f} s")
    return 0


def read_parameters() -> ProjectParameters:
    os.chdir(Path(__file__).parents[1])
    loader = OmegaConfigLoader(conf_source="conf", env="week", **project.CONFIG_LOADER_ARGS)
    return check_parameters(loader["parameters"])


def simulate(
    parameters: ProjectParameters, seed: int
) -> Iterator[tuple[tuple[str, AlertSettings], Score]]:
    """Simulate a week and score every window length and rule."""
    simulation = parameters.serving_simulation
    start = simulation.event_time.start
    end = start + timedelta(hours=simulation.event_time.hours)
    truth = describe_drift(simulation.drift.active(), start, end)
    model, reference = fit(seed)
    log = answer(model, send(simulation, seed))
    for window in WINDOWS:
        judged = judge(
            log, reference, parameters.monitoring.drift.model_copy(update={"window": window})
        )
        for rule in RULES:
            alerts = raise_alerts(*judged, rule)
            yield (window, rule), score(truth, alerts, judged[0])


def fit(seed: int) -> tuple[Any, Reference]:
    """Fit a model to synthetic wines, and profile the ones held out."""
    wines = draw_wines(SAMPLE, seed, duplicates=True, missing=True)
    fitting, held_out = wines.iloc[:FITTED], wines.iloc[FITTED:]
    # an exact duplicate of a fitted wine is no held-out wine
    inputs = [TYPE, *MEASUREMENT_NAMES]
    known = pd.MultiIndex.from_frame(fitting[inputs].fillna(-1))
    held_out = held_out[~pd.MultiIndex.from_frame(held_out[inputs].fillna(-1)).isin(known)]
    model = make_pipeline(
        SimpleImputer(), ExtraTreesRegressor(200, min_samples_leaf=2, random_state=0, n_jobs=1)
    )
    model.fit(design(fitting), fitting[QUALITY])
    return model, Reference.from_wines(held_out.assign(prediction=model.predict(design(held_out))))


def design(wines: pd.DataFrame) -> np.ndarray:
    red = (wines[TYPE] == "red").to_numpy(float)
    return np.column_stack([wines[list(MEASUREMENT_NAMES)].to_numpy(float), red])


def send(simulation: SimulationParameters, seed: int) -> pd.DataFrame:
    start = simulation.event_time.start
    planned = plan_traffic(
        None,
        samples=simulation.samples,
        start=start,
        duration=timedelta(hours=simulation.event_time.hours),
        seed=seed,
        rhythm=simulation.event_time.rhythm,
    )
    pool = draw_wines(POOL_ROWS, seed + 1_000_000)
    scenarios = simulation.drift.active()
    traffic = pd.concat(inject_drift(planned, pool, scenarios, start=start, seed=seed))
    ids = pd.Series(traffic.index.astype(str), index=traffic.index)
    receipts = traffic.assign(prediction_id=ids, acknowledged=True)
    labels = pd.concat(judge_wines([receipts], simulation.ground_truth, seed))
    said = labels.drop_duplicates("prediction_id").set_index("prediction_id")[QUALITY]
    return traffic.assign(quality=said.reindex(ids).to_numpy(float))


def answer(model: Any, traffic: pd.DataFrame) -> pd.DataFrame:
    return traffic.assign(prediction=model.predict(design(traffic)), model_version="1")


def judge(
    log: pd.DataFrame, reference: Reference, settings: DriftSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    profile = profile_windows(log, reference, settings.window)
    return decide(profile, reference, settings), judge_performance(profile, reference, settings)


def score(truth: Truth, alerts: list[Alert], verdicts: pd.DataFrame) -> Score:
    windows = verdicts[["window_start", "window_end"]].drop_duplicates()
    found = pd.DataFrame(alerts, columns=["window_start", "window_end", "subject"])
    found = found.assign(
        window_start=pd.to_datetime(found["window_start"], utc=True),
        window_end=pd.to_datetime(found["window_end"], utc=True),
        # the model's errors are judged for all wines and by type
        subject=found["subject"].str.replace(r" \(.*", "", regex=True),
        false=True,
    )
    delays, hits, touched = {}, {}, pd.Series(data=False, index=windows.index)
    for drift in truth:
        onset, full, until = (pd.Timestamp(drift[at]) for at in ("onset", "full", "until"))
        touched |= (windows["window_start"] < until) & (windows["window_end"] > onset)
        during = (found["window_start"] < until) & (found["window_end"] > onset)
        of_drift = during & (found["subject"] == drift["subject"])
        found.loc[of_drift | (during & found["subject"].isin(FOLLOWING)), "false"] = False
        first = found.loc[of_drift, "window_end"].min()
        delays[key(drift)] = (first - onset) / pd.Timedelta(hours=1)
        whole = windows[(windows["window_start"] >= full) & (windows["window_end"] <= until)]
        told = whole["window_start"].isin(found.loc[of_drift, "window_start"])
        hits[key(drift)] = int(told.sum()), len(whole)
    return Score(
        delays=delays,
        hits=hits,
        false_alarms=found.loc[found["false"], "window_start"].nunique(),
        quiet=int((~touched).sum()),
        windows=len(windows),
    )


def key(drift: Mapping[str, Any]) -> Drift:
    return drift["period_start"], drift["name"]


def print_scores(scores: Mapping[tuple[str, AlertSettings], list[Score]]) -> None:
    names = list(next(iter(scores.values()))[0].delays)
    head = ["window", "alert after", *(name for _, name in names), "false alarms a week"]
    print("Hours from the onset to the end of the first window that tells of it: median "
          "(smallest to largest), and in how many weeks it was told of at all\n")  # fmt: skip
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for (window, rule), weeks in scores.items():
        cells = [delay_cell([week.delays[name] for week in weeks]) for name in names]
        false = sum(week.false_alarms for week in weeks)
        low, high = garwood(false)
        n = len(weeks)
        cells.append(f"{false / n:.1f} ({false}/{n}; {low / n:.1f} to {high / n:.1f})")
        print(f"| {window} | {rule.after} of {rule.of} | {' | '.join(cells)} |")
    print("\nShare of the windows told of while the drift works in full\n")
    print(f"| {' | '.join(head[:-1])} |\n|{'---|' * (len(head) - 1)}")
    for (window, rule), weeks in scores.items():
        cells = [share_cell([week.hits[name] for week in weeks]) for name in names]
        print(f"| {window} | {rule.after} of {rule.of} | {' | '.join(cells)} |")


def delay_cell(delays: list[float]) -> str:
    known = [delay for delay in delays if not np.isnan(delay)]
    if not known:
        return f"never (0/{len(delays)})"
    spread = f"{min(known):.0f} to {max(known):.0f}"
    return f"{np.median(known):.0f} h ({spread}; {len(known)}/{len(delays)})"


def share_cell(hits: list[tuple[int, int]]) -> str:
    told, n = (sum(column) for column in zip(*hits, strict=True))
    interval = stats.binomtest(told, n).proportion_ci(method="wilson")
    return f"{told / n:.0%} ({told}/{n}; {interval.low:.0%} to {interval.high:.0%})"


def garwood(count: int) -> tuple[float, float]:
    """Exact 95 % interval of a Poisson mean (Biometrika 28(3/4), 1936)."""
    low = stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    return float(low), float(stats.chi2.ppf(0.975, 2 * count + 2) / 2)


def print_run(root: Path, parameters: ProjectParameters) -> None:
    """Hold the verdicts of a run against what it injected."""
    truth: Truth = json.loads((root / "05_model_input" / "injected_drift.json").read_text())
    verdicts = pd.read_parquet(root / "08_reporting" / "verdicts.parquet")
    model = pd.read_parquet(root / "08_reporting" / "model_verdicts.parquet")
    alerts = raise_alerts(verdicts, model, parameters.monitoring.alerts)
    found = score(truth, alerts, verdicts)
    print("| drift | subject | injected | first told of | windows told of in full force |")
    print("|---|---|---|---|---|")
    for drift in truth:
        told, n = found.hits[key(drift)]
        onset, until = (pd.Timestamp(drift[at]) for at in ("onset", "until"))
        print(
            f"| {drift['name']} ({drift['kind']}) | {drift['subject']} "
            f"| {onset:%a %H:%M} to {until:%a %H:%M} "
            f"| after {found.delays[key(drift)]:.0f} h | {told} of {n} |"
        )
    print(f"\nFalse alarms in {found.false_alarms} of {found.windows} windows.")


if __name__ == "__main__":
    raise SystemExit(main())
