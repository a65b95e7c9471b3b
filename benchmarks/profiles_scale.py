"""Measure the profiles on logs of up to 100 million predictions.

    python benchmarks/profiles_scale.py write FOLDER --days 100 --rows-a-day 1000000
    python benchmarks/profiles_scale.py lake FOLDER [--days 10]
    python benchmarks/profiles_scale.py evidently [--rows 100000 1000000]

`write` draws synthetic wines, half of them labelled, about 28 MB a million on disk, into Parquet
files by day, in bounded memory. `lake` profiles them with DuckDB into a store, with two
threads, then adds one day and runs again. `evidently` compares one window's profile and verdicts
with an Evidently drift report of the same rows, imports left out of both. Every measurement runs in
a process of its own, so that its peak memory is its own; time is wall time, and CPU time beside it,
which a busy machine stretches less. Prints Markdown.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wine_quality.drift.profiles import Reference
from wine_quality.traffic.synthetic import draw_wines, iter_wines
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PREDICTION, QUALITY

SEED = 20_260_101
FIRST_DAY = pd.Timestamp("2026-01-01", tz="UTC")
CHUNK = 131_072
VERSION = "1"
REFERENCE_ROWS = 1_300
MEMORY = "160MB"


def predict(wines: pd.DataFrame, rng: np.random.Generator) -> pd.Series:
    """A prediction with the error of a forest, without the time that a forest takes."""
    return 5.8 + 0.5 * (wines[QUALITY] - 5.8) + 0.5 * rng.standard_normal(len(wines))


def reference() -> Reference:
    wines = draw_wines(REFERENCE_ROWS, SEED)
    return Reference.from_wines(
        wines.assign(prediction=predict(wines, np.random.default_rng(SEED)))
    )


def log_chunks(day: int, rows: int) -> Iterator[pd.DataFrame]:
    """One day of the log, in order of event time."""
    rng = np.random.default_rng([SEED, day])
    start = FIRST_DAY + pd.Timedelta(days=day)
    for wines in iter_wines(rows, SEED + 1 + day, CHUNK, missing=True):
        share = (wines.index.to_numpy() + rng.random(len(wines))) / rows
        moments = start + pd.to_timedelta((share * 86_400e6).astype("int64"), unit="us")
        labelled = rng.random(len(wines)) < 0.5
        yield wines.assign(
            event_time=moments.as_unit("us"),
            model_version=VERSION,
            prediction=predict(wines, rng),
            quality=wines[QUALITY].where(labelled).astype("float64"),
            labelled_at=(moments + pd.Timedelta(days=2)).as_unit("us").where(labelled),
        )


def write_day(folder: Path, day: int, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = f"day={FIRST_DAY + pd.Timedelta(days=day):%Y-%m-%d}"
    target = folder / name / "part-0.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    writer = None
    for chunk in log_chunks(day, rows):
        table = pa.Table.from_pandas(chunk, preserve_index=False)
        writer = writer or pq.ParquetWriter(unfinished, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()
        unfinished.rename(target)


def measured(work: Callable[[], Any]) -> dict[str, Any]:
    """Run work; seconds and, for the whole process up to now, peak memory in MB."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    return {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "result": result,
    }


def apart(*arguments: str) -> dict[str, Any]:
    """The same script in a process of its own, which prints one measurement as JSON."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one_update(folder: str, store: str) -> dict[str, Any]:
    from wine_quality.drift.engine import lake_log
    from wine_quality.drift.profile_store import ProfileStore, lake_states, update_profiles

    def update() -> int:
        references = {VERSION: reference()}
        with ProfileStore(f"sqlite:///{store}") as profiles:
            states = lake_states(folder, [VERSION], "1D")
            log = lake_log(folder, memory_limit=MEMORY, threads=2)
            return len(update_profiles(profiles, log, references, states, "1D"))

    return measured(update)


def one_window(how: str, parquet: str) -> dict[str, Any]:
    """Profile and judge one window, or report on it."""
    if how == "engine":
        import duckdb  # noqa: F401  imports take their time before the measurement
        import ibis.backends.duckdb  # noqa: F401

        from wine_quality.drift.engine import lake_log, profile_table
        from wine_quality.drift.settings import DriftSettings
        from wine_quality.drift.verdicts import decide

        known = reference()
        profile = measured(lambda: profile_table(lake_log(parquet, memory_limit=MEMORY), known))
        counted = profile.pop("result")
        # the second verdicts find the thresholds of windows of that size calibrated
        first, later = (
            measured(lambda: len(decide(counted, known, DriftSettings()))) for _ in range(2)
        )
        return {"profile": profile, "first verdicts": first, "later verdicts": later}
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [*MEASUREMENT_NAMES, PREDICTION]
    columns = [*INPUTS, PREDICTION]
    wines = draw_wines(REFERENCE_ROWS, SEED)
    before = wines.assign(prediction=predict(wines, np.random.default_rng(SEED)))[columns]

    def report() -> int:
        now = pd.read_parquet(parquet, columns=columns)
        definition = DataDefinition(numerical_columns=numbers, categorical_columns=["type"])
        current, reference_data = (
            Dataset.from_pandas(frame, data_definition=definition) for frame in (now, before)
        )
        snapshot = Report([DataDriftPreset()], include_tests=True).run(current, reference_data)
        return len(snapshot.tests_results)

    return measured(report)


def lake(folder: Path, days: int | None) -> None:
    """First run on all days but the last, then the last day arrives."""
    names = sorted(path.name for path in folder.glob("day=*"))[:days]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        linked, store = Path(place) / "log", Path(place) / "profiles.db"
        print("| run | windows computed | s | CPU s | peak MB |\n|---|---|---|---|---|")
        steps = (("first", names[:-1]), ("one new day", names[-1:]), ("nothing new", []))
        for what, new in steps:
            for name in new:
                target = linked / name
                target.mkdir(parents=True)
                for part in (folder / name).glob("*.parquet"):
                    os.link(part, target / part.name)
            found = apart("one-update", str(linked), str(store))
            print(
                f"| {what} | {found['result']} | {found['seconds']:.1f} | {found['cpu']:.1f} "
                f"| {found['peak']:.0f} |",
                flush=True,
            )


def evidently(sizes: list[int]) -> None:
    print("| rows | | s | CPU s | peak MB |\n|---|---|---|---|---|")
    for rows in sizes:
        with tempfile.TemporaryDirectory() as place:
            write_day(Path(place), 0, rows)
            ours = apart("one-window", "engine", place)
            theirs = apart("one-window", "evidently", place)
        for what, found in (*ours.items(), ("Evidently drift report", theirs)):
            print(
                f"| {rows:,} | {what} | {found['seconds']:.2f} | {found['cpu']:.2f} "
                f"| {found['peak']:.0f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write")
    write.add_argument("folder", type=Path)
    write.add_argument("--days", type=int, default=10)
    write.add_argument("--rows-a-day", type=int, default=1_000_000)
    profile = commands.add_parser("lake")
    profile.add_argument("folder", type=Path)
    profile.add_argument("--days", type=int)
    compare = commands.add_parser("evidently")
    compare.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    for name in ("one-update", "one-window"):
        commands.add_parser(name).add_argument("places", nargs=2)
    given = parser.parse_args()
    if given.command == "write":
        shutil.rmtree(given.folder, ignore_errors=True)
        for day in range(given.days):
            write_day(given.folder, day, given.rows_a_day)
    elif given.command == "lake":
        lake(given.folder, given.days)
    elif given.command == "evidently":
        evidently(given.rows)
    else:
        one = one_update if given.command == "one-update" else one_window
        print(json.dumps(one(*given.places)))


if __name__ == "__main__":
    main()
