"""Hours of ordinary use in one command: does the service's memory stay, does a request ever fail?

    python benchmarks/steady.py --minutes 30

Starts the service on a champion and an inference log of its own, has `locustfile.py` use it (single
wines, batches, ground truth, mistakes), and samples the memory of all its processes. Prints tables
for docs/benchmarks/service.md; the exit status is 1 where a request failed or a prediction is
missing.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from processes import resident_mb
from serving import Peer, free_port, train

from wine_quality.serving.inference_log import InferenceLog

HERE = Path(__file__).parent
SAMPLE_S = 2.0
PARTS = 10
"""Lines of the table of memory."""


def service(folder: Path, workers: int) -> Peer:
    """The service, not started yet."""
    port = free_port()
    return Peer(
        "service",
        [sys.executable, "-m", "wine_quality.serving", "serve",
         "--port", str(port), "--workers", str(workers)],
        "/predict", b"", "/health/ready", port,
        {"WINE_QUALITY_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
         "WINE_QUALITY_LOG_URL": f"sqlite:///{folder}/log.db"},
    )  # fmt: skip


def use(
    peer: Peer, folder: Path, minutes: float, users: int
) -> tuple[np.ndarray, list[dict[str, str]]]:
    """Have people use it; (seconds, MB) samples of its memory, and locust's figures."""
    seconds = round(60 * minutes)
    load = subprocess.Popen(
        [sys.executable, "-m", "locust", "--locustfile", str(HERE.parent / "locustfile.py"),
         "--headless", "--only-summary", "--users", str(users), "--spawn-rate", str(users),
         "--run-time", f"{seconds}s", "--host", f"http://127.0.0.1:{peer.port}",
         "--csv", str(folder / "load")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    begin = time.monotonic()
    samples = []
    while load.poll() is None:
        samples.append((time.monotonic() - begin, resident_mb(peer.process.pid)))
        time.sleep(SAMPLE_S)
    with (folder / "load_stats.csv").open() as lines:
        return np.array(samples), list(csv.DictReader(lines))


def report(samples: np.ndarray, figures: list[dict[str, str]]) -> None:
    """Print requests and memory as Markdown."""
    print("| request | answered | failed | p50 ms | p99 ms |\n|---|--:|--:|--:|--:|")
    for row in figures:
        name = f"{row['Type']} {row['Name']}".strip()
        print(
            f"| {name} | {int(row['Request Count']):,} | {row['Failure Count']} | "
            f"{row['50%']} | {row['99%']} |"
        )
    print("\n| minute | memory, MB |\n|--:|--:|")
    parts = np.array_split(samples, PARTS)
    medians = [np.median(part[:, 1]) for part in parts]
    for part, median in zip(parts, medians, strict=True):
        print(f"| {part[-1, 0] / 60:.1f} | {median:.0f} |")
    # by then caches and pools have filled
    later = medians[-1] - medians[PARTS // 2]
    print(f"\nMost: {samples[:, 1].max():.0f} MB; in the second half it grew by {later:+.1f} MB.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    with TemporaryDirectory(prefix="serving-steady-") as name:
        folder = Path(name)
        train(folder, trees=100)
        peer = service(folder, given.workers)
        try:
            peer.start(folder)
            samples, figures = use(peer, folder, given.minutes, given.users)
            address = f"http://127.0.0.1:{peer.port}/live/data"
            counted = json.loads(urllib.request.urlopen(address).read())["counters"]["predictions"]
        finally:
            peer.stop()
        with InferenceLog(f"sqlite:///{folder}/log.db") as log:
            logged = log.counts().predictions
    report(samples, figures)
    print(f"Predictions answered: {counted:,.0f}; in the log: {logged:,}.")
    failed = sum(int(row["Failure Count"]) for row in figures)
    return int(bool(failed) or counted != logged)


if __name__ == "__main__":
    sys.exit(main())
