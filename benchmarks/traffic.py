"""How much traffic the backends bear, with the champion of the registry.

    python benchmarks/traffic.py                   # after a `kedro run`
    python benchmarks/traffic.py --lake 10000000   # ten million wines as well, minutes

In one run: wines a second within the process in large batches; over HTTP in batches of 1,000 on
four threads, and in a plain loop of requests with 10 wines each to the same server, in turn; and
the peak memory of processes that write partitioned logs of several sizes.
"""

import argparse
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import pandas as pd
import requests

from wine_quality.modelling.registry import ModelRegistry
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.predictor import Predictor
from wine_quality.traffic.backends import Backend, BackendContext, create_backend
from wine_quality.traffic.synthetic import draw_wines, iter_wines
from wine_quality.wines import INPUTS

START = pd.Timestamp("2026-01-01", tz="UTC").as_unit("us")
LAKE_BATCH = 20_000
THREADS, OUR_BATCH, PLAIN_BATCH = 4, 1_000, 10


def champion(tracking_uri: str) -> Predictor:
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    found = ModelRegistry("wine-quality").champion()
    return Predictor(found.model, found.version.name, found.version.version)


def moments(first: int, n: int) -> pd.Series:
    """Event times of wines that come every two minutes: 720 a day."""
    return pd.Series(START + pd.to_timedelta(np.arange(first, first + n) * 120, unit="s"))


def deliver(
    backend: Backend, wines: pd.DataFrame, batch: int, threads: int, name: str
) -> tuple[float, float]:
    """Send all wines; wines a second, and a second of this process' CPU time."""

    def send(first: int) -> None:
        part = wines.iloc[first : first + batch]
        backend.predict(
            part, event_time=moments(first, len(part)), source="benchmark",
            request_id=f"{name}-{first}",
        )  # fmt: skip

    begin, begin_cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(send, range(0, len(wines), batch)))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    return len(wines) / seconds, len(wines) / cpu


def plain_loop(url: str, wines: pd.DataFrame) -> float:
    """What one writes first: one request after the other on a kept connection; wines a second."""
    begin = time.perf_counter()
    with requests.Session() as session:
        for first in range(0, len(wines), PLAIN_BATCH):
            rows = json.loads(wines.iloc[first : first + PLAIN_BATCH].to_json(orient="records"))
            answer = session.post(f"{url}/predict/batch", json={"wines": rows}, timeout=60)
            answer.raise_for_status()
    return len(wines) / (time.perf_counter() - begin)


@contextmanager
def service(tracking_uri: str, folder: Path) -> Iterator[str]:
    """The prediction service as a process; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "WINE_QUALITY_PORT": str(port), "WINE_QUALITY_TRACKING_URI": tracking_uri,
        "WINE_QUALITY_LOG_URL": f"sqlite:///{folder}/service.db",
    }  # fmt: skip
    with (folder / "service.log").open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "wine_quality.serving", "serve"],
            env=environment, stdout=lines, stderr=lines, start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"{url}/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline or process.poll() is not None:
                sys.exit(f"The service did not start:\n{(folder / 'service.log').read_text()}")
            time.sleep(0.1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def in_process(predictor: Predictor, folder: Path, rounds: int) -> None:
    wines = draw_wines(20_000, 1, missing=True)[list(INPUTS)]
    print("| in-process, batch of | wines/s, median | least–most | wines/s of CPU |")
    print("|--:|--:|--:|--:|")
    for batch in (1_000, 5_000, 10_000, 20_000):
        log = InferenceLog(f"sqlite:///{folder}/in-process-{batch}.db")
        backend = create_backend("in_process", {}, BackendContext(predictor, log))
        deliver(backend, wines.head(batch), batch, 1, "warm")
        runs = [deliver(backend, wines, batch, 1, f"round{i}") for i in range(rounds)]
        speeds = [speed for speed, _ in runs]
        print(
            f"| {batch:,} | {statistics.median(speeds):,.0f} | {min(speeds):,.0f}–"
            f"{max(speeds):,.0f} | {statistics.median(cpu for _, cpu in runs):,.0f} |",
            flush=True,
        )


def over_http(tracking_uri: str, folder: Path, rounds: int) -> None:
    wines = draw_wines(20_000, 2)[list(INPUTS)]
    with service(tracking_uri, folder) as url:
        backend = create_backend("service", {"url": url}, BackendContext())

        def ours(name: str) -> float:
            return deliver(backend, wines, OUR_BATCH, THREADS, name)[0]

        ours("warm")
        plain_loop(url, wines.head(500))
        pairs = [(ours(f"round{i}"), plain_loop(url, wines.head(2_000))) for i in range(rounds)]
    ratios = [mine / plain for mine, plain in pairs]
    print("\n| over HTTP | wines/s, median |\n|---|--:|")
    print(f"| backend `service`, {THREADS} threads, batches of {OUR_BATCH:,} "
          f"| {statistics.median(mine for mine, _ in pairs):,.0f} |")  # fmt: skip
    print(f"| plain loop, requests with {PLAIN_BATCH} wines "
          f"| {statistics.median(plain for _, plain in pairs):,.0f} |")  # fmt: skip
    print(f"| ratio | {statistics.median(ratios):.1f}× ({min(ratios):.1f}–{max(ratios):.1f}) |",
          flush=True)  # fmt: skip


def fill_lake(predictor: Predictor, folder: Path, n: int) -> None:
    """Write a partitioned log of n wines; prints peak memory and time."""
    backend = create_backend("lake", {"folder": str(folder)}, BackendContext(predictor))
    # a hundred days, whatever the number of wines
    step = pd.Timedelta(days=100) / n
    begin, first = time.perf_counter(), 0
    for wines in iter_wines(n, 3, chunk_rows=LAKE_BATCH):
        times = START + step * np.arange(first, first + len(wines))
        backend.predict(
            wines[list(INPUTS)], event_time=pd.Series(times).dt.as_unit("us"), source="benchmark",
            request_id=f"lake-{first:09d}",
        )  # fmt: skip
        first += len(wines)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    files = [path.stat().st_size for path in folder.glob("day=*/*.parquet")]
    print(
        f"| {n:,} | {peak:,.0f} | {seconds:,.0f} | {n / seconds:,.0f} | {len(files):,} | "
        f"{sum(files) / 2**20:,.0f} |"
    )


def lakes(arguments: argparse.Namespace, folder: Path) -> None:
    print("\n| lake, wines | peak MB | s | wines/s | files | MB |\n|--:|--:|--:|--:|--:|--:|",
          flush=True)  # fmt: skip
    for n in arguments.lake:
        subprocess.run(
            [sys.executable, __file__, "--tracking-uri", arguments.tracking_uri,
             "--fill", str(folder / f"lake-{n}"), str(n)],
            check=True,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracking-uri", default="sqlite:///data/mlflow.db")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lake", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--fill", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fill:
        folder, n = arguments.fill
        fill_lake(champion(arguments.tracking_uri), Path(folder), int(n))
        return
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    with TemporaryDirectory(prefix="wine-quality-") as name:
        folder = Path(name)
        in_process(champion(arguments.tracking_uri), folder, arguments.rounds)
        over_http(arguments.tracking_uri, folder, arguments.rounds)
        lakes(arguments, folder)


if __name__ == "__main__":
    main()
