"""Score the monitor on simulated weeks whose drift is known: delay to detection, false alarms.

    python benchmarks/simulated_week.py [--weeks N]         # many weeks, each with its own model
    python benchmarks/simulated_week.py --run data/week     # the week of `kedro run --env week`

The weeks are those of `conf/week`: planned, drifted and labelled by the project's own functions,
answered by extra trees that were fitted to other synthetic wines, and judged at the settings of
`conf/base`. Prints Markdown. Intervals of shares are Wilson's, of counts Garwood's, 95 %.

An alert is of a drift if it is about the drift's subject and was found while the drift lasts. The
predictions, the model's errors and how measurements go together may follow any drift; alerts about
them are false only where no drift lasts, alerts about a column where its own does not.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
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
from wine_quality.drift.alerts import Alert, raise_alerts
from wine_quality.drift.profiles import HOUR_S, count
from wine_quality.drift.reference import JOINT, Reference
from wine_quality.drift.verdicts import VERDICTS_DTYPES
from wine_quality.drift.watching import MODEL, find_changes
from wine_quality.pipelines.parameters import ProjectParameters, check_parameters
from wine_quality.pipelines.serving_simulation.parameters import SimulationParameters
from wine_quality.traffic.ground_truth import judge_wines
from wine_quality.traffic.planning import POOL_ROWS, plan_traffic
from wine_quality.traffic.scenarios import describe_drift, inject_drift
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import MEASUREMENT_NAMES, PREDICTION, QUALITY, TYPE

SEED = 20_260_101
FITTED, SAMPLE = 5_197, 6_497
FOLLOWING = (PREDICTION, MODEL, JOINT)
"""Subjects that may follow any drift."""
NO_VERDICTS = pd.DataFrame(columns=list(VERDICTS_DTYPES))
SETTLING = pd.Timedelta("6h")
"""What is found so soon after a drift's end is still of it."""
Truth = list[dict[str, Any]]
Drift = tuple[str, str]
"""A drift of one period: the period's start, and the drift's name."""


@dataclass(frozen=True)
class Score:
    """What the alerts of one week were worth.

    Attributes:
        delays: Hours from a drift's onset to the end of the hour in which it was found, by the
            start of the drift's period and its name; NaN if it was not.
        onsets: Hours by which the alert's onset misses the true one, likewise.
        false_alerts: Alerts that are of no drift.
    """

    delays: Mapping[Drift, float]
    onsets: Mapping[Drift, float]
    false_alerts: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--weeks", type=int, default=20, help="simulated weeks")
    parser.add_argument("--run", type=Path, help="root of a finished `kedro run --env week`")
    arguments = parser.parse_args()
    parameters = read_parameters()
    if arguments.run:
        print_run(arguments.run)
        return 0
    began = time.perf_counter()
    scores = [simulate(parameters, SEED + week) for week in range(arguments.weeks)]
    print_scores(scores)
    seconds = time.perf_counter() - began
    print(f"\n{arguments.weeks} weeks, seeds from {SEED}, {seconds:.0f} s")
    return 0


def read_parameters() -> ProjectParameters:
    os.chdir(Path(__file__).parents[1])
    loader = OmegaConfigLoader(conf_source="conf", env="week", **project.CONFIG_LOADER_ARGS)
    return check_parameters(loader["parameters"])


def simulate(parameters: ProjectParameters, seed: int) -> Score:
    """Simulate a week and score its alerts."""
    simulation = parameters.serving_simulation
    start = simulation.event_time.start
    end = start + timedelta(hours=simulation.event_time.hours)
    truth = describe_drift(simulation.drift.active(), start, end)
    model, reference = fit(seed)
    profile = count(answer(model, send(simulation, seed)), reference, HOUR_S)
    promised = parameters.monitoring.alerts.false_alerts_per_month
    findings = find_changes({"1": profile}, {"1": reference}, promised)
    return score(truth, raise_alerts(findings, NO_VERDICTS))


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


def score(truth: Truth, alerts: Sequence[Alert]) -> Score:
    found = [pd.Timestamp(alert.found) + pd.Timedelta(seconds=HOUR_S) for alert in alerts]
    of_drift = [False] * len(alerts)
    delays, onsets = {}, {}
    for drift in truth:
        onset, until = (pd.Timestamp(drift[at]) for at in ("onset", "until"))
        delays[key(drift)] = onsets[key(drift)] = float("nan")
        for k, (alert, moment) in enumerate(zip(alerts, found, strict=True)):
            if not onset < moment <= until + SETTLING:
                continue
            own = alert.subject == drift["subject"]
            of_drift[k] |= own or alert.subject in FOLLOWING
            if own and np.isnan(delays[key(drift)]):
                delays[key(drift)] = (moment - onset) / pd.Timedelta(hours=1)
                onsets[key(drift)] = abs(pd.Timestamp(alert.since) - onset) / pd.Timedelta(hours=1)
    return Score(delays, onsets, of_drift.count(False))


def key(drift: Mapping[str, Any]) -> Drift:
    return drift["period_start"], drift["name"]


def print_scores(weeks: Sequence[Score]) -> None:
    names = list(weeks[0].delays)
    print("Hours from the onset to the alert, and by which the alert's onset misses it: median "
          "(smallest to largest; weeks in which it was found)\n")  # fmt: skip
    print("| drift | hours to the alert | onset missed by |\n|---|---|---|")
    for name in names:
        cells = (
            delay_cell([week.delays[name] for week in weeks]),
            delay_cell([week.onsets[name] for week in weeks]),
        )
        print(f"| {name[1]} | {' | '.join(cells)} |")
    false, n = sum(week.false_alerts for week in weeks), len(weeks)
    low, high = garwood(false)
    print(f"\nFalse alerts a week: {false / n:.2f} ({false}/{n}; {low / n:.2f} to {high / n:.2f})")


def delay_cell(delays: list[float]) -> str:
    known = [delay for delay in delays if not np.isnan(delay)]
    if not known:
        return f"never (0/{len(delays)})"
    spread = f"{min(known):.0f} to {max(known):.0f}"
    return f"{np.median(known):.0f} h ({spread}; {len(known)}/{len(delays)})"


def garwood(count: int) -> tuple[float, float]:
    """Exact 95 % interval of a Poisson mean (Biometrika 28(3/4), 1936)."""
    low = stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    return float(low), float(stats.chi2.ppf(0.975, 2 * count + 2) / 2)


def print_run(root: Path) -> None:
    """Compare the alerts of a run with what it injected."""
    truth: Truth = json.loads((root / "05_model_input" / "injected_drift.json").read_text())
    alerts = json.loads((root / "08_reporting" / "alerts.json").read_text())
    found = score(truth, [Alert.from_dict(alert) for alert in alerts])
    print("| drift | subject | injected | found after | onset missed by |")
    print("|---|---|---|---|---|")
    for drift in truth:
        onset, until = (pd.Timestamp(drift[at]) for at in ("onset", "until"))
        print(
            f"| {drift['name']} ({drift['kind']}) | {drift['subject']} "
            f"| {onset:%a %H:%M} to {until:%a %H:%M} "
            f"| {found.delays[key(drift)]:.0f} h | {found.onsets[key(drift)]:.0f} h |"
        )
    print(f"\nFalse alerts: {found.false_alerts}.")


if __name__ == "__main__":
    raise SystemExit(main())
