"""Measure the profiles on logs of up to 100 million predictions.

    python benchmarks/profiles_scale.py write FOLDER --days 100 --rows-a-day 1000000
    python benchmarks/profiles_scale.py lake FOLDER [--days 10]
    python benchmarks/profiles_scale.py fill URL [--rows 1000000]
    python benchmarks/profiles_scale.py count FOLDER-OR-URL [--engine spark] [--rounds 3]
    python benchmarks/profiles_scale.py evidently [--rows 100000 1000000] [--rounds 3]

`write` draws synthetic wines, half of them labelled, about 28 MB a million on disk, into Parquet
files by day, in bounded memory. `lake` profiles them with DuckDB into a store, with two
threads, then adds one day and runs again. `fill` writes such a log into an empty database, and
`count` profiles the whole of a log, whatever holds it. `evidently` compares one window's profile,
its verdicts, and the profile of a frame that is in memory already, with an Evidently drift report
of the same rows. Each side first does the same with a thousand wines, which leaves out imports; the
sides take turns, and the median round is shown. Every measurement runs in a process of its own, so
that its peak memory is its own, with the imports; time is wall time, and CPU time beside it, which
a busy machine stretches less. Prints Markdown.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wine_quality.drift.profiles import HOUR_S, Profile, count
from wine_quality.drift.reference import Reference
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


def write_reference(folder: Path) -> None:
    """The held-out wines, and what the monitoring knows of them."""
    wines = draw_wines(REFERENCE_ROWS, SEED)
    wines = wines.assign(prediction=predict(wines, np.random.default_rng(SEED)))
    wines.to_parquet(folder / "reference.parquet")
    plain = Reference.from_wines(wines).to_dict()
    (folder / "reference.json").write_text(json.dumps(plain), encoding="utf-8")


def read_reference(folder: Path) -> Reference:
    return Reference.from_dict(json.loads((folder / "reference.json").read_text(encoding="utf-8")))


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


MEASURED = ("seconds", "cpu", "peak")


def peak_memory() -> float:
    """Peak memory of this process in MB.

    Linux's `ru_maxrss` will not do: it begins with that of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measured(work: Callable[[], Any]) -> dict[str, Any]:
    """Run work; seconds and, for the whole process up to now, peak memory in MB."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    return {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "peak": peak_memory(),
        "result": result,
    }


def apart(*arguments: str) -> dict[str, Any]:
    """The same script in a process of its own, which prints one measurement as JSON."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one_update(place: Path) -> dict[str, Any]:
    from wine_quality.drift.log_engines import lake_states
    from wine_quality.drift.log_reader import LakeReader
    from wine_quality.drift.profile_store import ProfileStore, update_profiles

    def update() -> int:
        references = {VERSION: read_reference(place)}
        folder = str(place / "log")
        with ProfileStore(f"sqlite:///{place}/profiles.db") as profiles:
            states = lake_states(folder, [VERSION], f"{HOUR_S}s")
            log = LakeReader(folder, "duckdb", memory_limit=MEMORY, threads=2)
            return update_profiles(profiles, log, references, states, HOUR_S)

    return {"update": measured(update)}


def one_window(place: Path) -> dict[str, Any]:
    """Profile and judge one window where it lies."""
    from wine_quality.drift.log_reader import LakeReader

    known = read_reference(place)

    def profile(folder: Path) -> Profile:
        with closing(LakeReader(str(folder), "duckdb", MEMORY, threads=1)) as log:
            return log.profile(known)

    profile(place / "few")
    found = {"profile": measured(lambda: profile(place / "log"))}
    counted = found["profile"]["result"]

    from wine_quality.drift.settings import DriftSettings
    from wine_quality.drift.verdicts import decide
    from wine_quality.drift.windows import make_windows

    # the second verdicts find the thresholds of windows of that size calibrated
    windows = make_windows(counted, DriftSettings())
    for what in ("first verdicts", "later verdicts"):
        found[what] = measured(lambda: decide(*windows, known, VERSION, DriftSettings()))
    return found


def fill(url: str, rows: int) -> None:
    """Write a log into an empty database, by the day."""
    import sqlalchemy as sa

    from wine_quality.database.addresses import parse_database_url
    from wine_quality.serving.identifiers import uuid7_batch
    from wine_quality.serving.log_schema import GROUND_TRUTH, METADATA, PREDICTIONS

    engine = sa.create_engine(parse_database_url(url))
    METADATA.create_all(engine)
    for wines in log_chunks(0, rows):
        made = {"prediction_id": uuid7_batch(len(wines)), "received_at": wines["event_time"]}
        chunk = wines.assign(**made, source="benchmark", latency_ms=1.0)
        labels = chunk.dropna(subset=QUALITY).astype({QUALITY: int})
        with engine.begin() as connection:
            for table, frame in ((PREDICTIONS, chunk), (GROUND_TRUTH, labels)):
                names = [column.name for column in table.c if column.name in frame]
                plain = frame[names].astype(object)
                records = plain.where(plain.notna(), None).to_dict(orient="records")
                connection.execute(sa.insert(table), records)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def one_count(source: str, engine: str) -> dict[str, Any]:
    """Count a whole log by hour; connections are open and workers warm before."""
    from wine_quality.drift.log_reader import DatabaseReader, LakeReader
    from wine_quality.serving.log_schema import labelled_predictions

    with tempfile.TemporaryDirectory() as folder:
        write_reference(Path(folder))
        known = read_reference(Path(folder))
    reader = (
        DatabaseReader(source, labelled_predictions())
        if source.startswith(("sqlite:", "postgres"))
        else LakeReader(source, engine, threads=1)
    )
    with closing(reader) as log:
        log.profile(known, until=FIRST_DAY + pd.Timedelta("1min"))
        return {"count": measured(lambda: int(log.profile(known).wines.sum()))}


def count_log(source: str, engine: str, rounds: int) -> None:
    print("| rows | s | CPU s of this process | peak MB |\n|--:|--:|--:|--:|")
    for _ in range(rounds):
        found = apart("one-count", source, "--engine", engine)["count"]
        numbers = (f"{found[key]:.1f}" for key in ("seconds", "cpu"))
        print_row(f"{found['result']:,}", *numbers, f"{found['peak']:.0f}")


def one_frame(place: Path) -> dict[str, Any]:
    known = read_reference(place)
    count(pd.read_parquet(place / "few"), known)
    log = pd.read_parquet(place / "log")
    return {"profile of a frame in memory": measured(lambda: count(log, known))}


def one_report(place: Path) -> dict[str, Any]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    columns = [*INPUTS, PREDICTION]
    before = pd.read_parquet(place / "reference.parquet")[columns]
    definition = DataDefinition(
        numerical_columns=[*MEASUREMENT_NAMES, PREDICTION], categorical_columns=["type"]
    )

    def report(folder: Path) -> Any:
        current, reference = (
            Dataset.from_pandas(frame, data_definition=definition)
            for frame in (pd.read_parquet(folder, columns=columns), before)
        )
        return Report([DataDriftPreset()], include_tests=True).run(current, reference)

    report(place / "few")
    return {"Evidently drift report": measured(lambda: report(place / "log"))}


ONE_WINDOW = {"one-window": one_window, "one-frame": one_frame, "one-report": one_report}


def print_row(*cells: Any) -> None:
    print("|", " | ".join(str(cell) for cell in cells), "|", flush=True)


def lake(folder: Path, days: int | None) -> None:
    """First run on all days but the last, then the last day arrives."""
    names = sorted(path.name for path in folder.glob("day=*"))[:days]
    print("| run | windows computed | s | CPU s | peak MB |\n|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        write_reference(Path(place))
        steps = (("first", names[:-1]), ("one new day", names[-1:]), ("nothing new", []))
        for what, new in steps:
            for name in new:
                target = Path(place) / "log" / name
                target.mkdir(parents=True)
                for part in (folder / name).glob("*.parquet"):
                    os.link(part, target / part.name)
            found = apart("one-update", place)["update"]
            numbers = (f"{found[key]:.1f}" for key in ("seconds", "cpu"))
            print_row(what, found["result"], *numbers, f"{found['peak']:.0f}")


def evidently(sizes: list[int], rounds: int) -> None:
    print("| rows | | s | CPU s | peak MB | CPU: Evidently's / this |")
    print("|--:|---|--:|--:|--:|--:|")
    for rows in sizes:
        with tempfile.TemporaryDirectory() as place:
            write_reference(Path(place))
            write_day(Path(place) / "few", 0, 1_000)
            write_day(Path(place) / "log", 0, rows)
            each = [
                {name: one for how in ONE_WINDOW for name, one in apart(how, place).items()}
                for _ in range(rounds)
            ]
        median = {
            name: {key: statistics.median(one[name][key] for one in each) for key in MEASURED}
            for name in each[0]
        }
        theirs = median["Evidently drift report"]["cpu"]
        for name, found in median.items():
            numbers = (f"{found[key]:.2f}" for key in ("seconds", "cpu"))
            print_row(
                f"{rows:,}", name, *numbers, f"{found['peak']:.0f}", f"{theirs / found['cpu']:.1f}"
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
    filling = commands.add_parser("fill")
    filling.add_argument("url")
    filling.add_argument("--rows", type=int, default=1_000_000)
    for name in ("count", "one-count"):
        counting = commands.add_parser(name)
        counting.add_argument("source")
        counting.add_argument("--engine", choices=("duckdb", "spark"), default="duckdb")
        counting.add_argument("--rounds", type=int, default=3)
    compare = commands.add_parser("evidently")
    compare.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    compare.add_argument("--rounds", type=int, default=3)
    works = {"one-update": one_update, **ONE_WINDOW}
    for name in works:
        commands.add_parser(name).add_argument("place", type=Path)
    given = parser.parse_args()
    if given.command == "write":
        shutil.rmtree(given.folder, ignore_errors=True)
        for day in range(given.days):
            write_day(given.folder, day, given.rows_a_day)
    elif given.command == "lake":
        lake(given.folder, given.days)
    elif given.command == "evidently":
        evidently(given.rows, given.rounds)
    elif given.command == "fill":
        fill(given.url, given.rows)
    elif given.command == "count":
        count_log(given.source, given.engine, given.rounds)
    else:
        if given.command == "one-count":
            found = one_count(given.source, given.engine)
        else:
            found = works[given.command](given.place)
        print(json.dumps(found, default=lambda _: None))


if __name__ == "__main__":
    main()
