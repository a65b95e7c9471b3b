"""How fast the service answers, side by side with others that serve the same model.

    python benchmarks/serving.py --mlserver /path/to/a/venv/bin/mlserver

All services run at once and are measured in turn, round after round, so that whatever else the
machine does disturbs all of them alike; the ratios matter, the figures are this machine's. The
processor time that a request takes of the service is disturbed least.

The trees have `n_jobs=1`, which is fairest to those that ask scikit-learn for one wine at a time:
with `n_jobs=-1` every request starts threads.
"""

import argparse
import json
import os
import pickle
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from processes import cpu_seconds

HERE = Path(__file__).parent
MODEL = "wine-quality"
PLAIN, SHADOW = "ours, SQLite", "ours, shadow of all"
BELOW = (0.15, 0.3, 0.5)
"""Shares of the requests per second at saturation."""
FATE = 'wine_quality_shadow_wines_total{{fate="{}"}}'
OVERLOAD = 128
"""Connections without a pause that are more than the service can do."""


@dataclass
class Peer:
    """A service to measure."""

    name: str
    command: list[str]
    path: str
    body: bytes
    health: str
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    logs: bool = False
    process: subprocess.Popen[bytes] | None = None

    def start(self, folder: Path) -> None:
        """Start it and wait until it answers."""
        lines = (folder / f"{self.name.replace(' ', '_')}.log").open("wb")
        self.process = subprocess.Popen(
            self.command, env={**os.environ, **self.environment}, cwd=self.cwd,
            stdout=lines, stderr=lines, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.health}", timeout=2)
            except OSError:
                time.sleep(0.2)
            else:
                return
        sys.exit(f"{self.name} did not start:\n{Path(lines.name).read_text()[-2000:]}")

    def stop(self) -> None:
        """Stop it, and what it started."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)

    def measure(
        self, folder: Path, connections: int, seconds: float, rate: float = 0
    ) -> dict[str, Any]:
        """Load it for so many seconds: without a pause, or with so many requests a second."""
        body = folder / "body.json"
        body.write_bytes(self.body)
        before = cpu_seconds(self.process.pid)
        done = subprocess.run(
            [sys.executable, str(HERE / "load.py"), str(self.port), self.path, str(body),
             "--connections", str(connections), "--seconds", str(seconds), "--rate", str(rate)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found = json.loads(done.stdout)
        requests = sum(found["statuses"].values())
        found["cpu_ms"] = 1000 * (cpu_seconds(self.process.pid) - before) / max(1, requests)
        return found

    def figure(self, name: str) -> float:
        """A figure of its `/metrics`; 0 where there is none yet."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        lines = urllib.request.urlopen(url).read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def train(folder: Path, trees: int, jobs: int = 1) -> tuple[Any, list[dict[str, Any]]]:
    """Register extra trees as champion, as training does, and once more as challenger.

    Returns:
        The model, and 1,000 wines to send.
    """
    import mlflow
    from mlflow import MlflowClient

    from wine_quality.modelling.candidates import Candidate, build_model
    from wine_quality.modelling.onnx_export import export
    from wine_quality.modelling.registry import ModelRegistry, TrainedModel
    from wine_quality.traffic.synthetic import draw_wines
    from wine_quality.wines import INPUTS

    wines = draw_wines(6_497, 1, duplicates=False, missing=False)
    held_out = draw_wines(1_000, 2, duplicates=False, missing=False)
    candidate = Candidate(
        estimator="sklearn.ensemble.ExtraTreesRegressor",
        settings={"n_estimators": trees, "min_samples_leaf": 2, "n_jobs": jobs},
    )
    model = build_model(candidate, seed=0).fit(wines[list(INPUTS)], wines["quality"])
    reference = held_out.assign(prediction=model.predict(held_out[list(INPUTS)]))
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    experiment = MlflowClient(uri).create_experiment("e", (folder / "artifacts").as_uri())
    registry = ModelRegistry(MODEL)
    with mlflow.start_run(experiment_id=experiment):
        version = registry.register(TrainedModel(model, reference))
        challenger = registry.register(TrainedModel(model, reference))
    registry.set_alias("champion", version.version)
    registry.set_alias("challenger", challenger.version)
    content = export(model, reference).content
    (folder / "model.onnx").write_bytes(content)
    (folder / "model.pickle").write_bytes(pickle.dumps(model))
    return model, json.loads(held_out[list(INPUTS)].to_json(orient="records"))


def peers(folder: Path, wine: dict[str, Any], given: argparse.Namespace) -> list[Peer]:
    """Everything to measure; ours first."""
    python = sys.executable
    uri = f"sqlite:///{folder}/mlflow.db"
    single = json.dumps(wine).encode()
    split = json.dumps({"dataframe_split": {"columns": list(wine), "data": [list(wine.values())]}})

    def ours(name: str, *flags: str, log: str = "", **more: str) -> Peer:
        port = free_port()
        log = log or f"sqlite:///{folder}/{name.replace(' ', '_').replace(',', '')}.db"
        return Peer(
            name, [python, "-m", "wine_quality.serving", "serve", "--port", str(port), *flags],
            "/predict", single, "/health/ready", port,
            {"WINE_QUALITY_TRACKING_URI": uri, "WINE_QUALITY_LOG_URL": log, **more}, logs=True,
        )  # fmt: skip

    def uvicorn(name: str, app: str, health: str, *flags: str, **more: str) -> Peer:
        port = free_port()
        command = [python, "-m", "uvicorn", app, "--port", str(port), "--no-access-log", *flags]
        return Peer(name, command, "/predict", single, health, port, more, HERE / "peers")

    unlogged = uvicorn(
        "ours, log taken out", "unlogged:create", "/health/ready", "--factory",
        WINE_QUALITY_TRACKING_URI=uri, WINE_QUALITY_LOG_URL=f"sqlite:///{folder}/unlogged.db",
    )  # fmt: skip
    noop = uvicorn("FastAPI that does nothing", "noop:app", "/openapi.json")
    tutorial = uvicorn(
        "tutorial", "tutorial:app", "/openapi.json", BENCHMARK_PICKLE=f"{folder}/model.pickle"
    )
    port = free_port()
    mlflow = Peer(
        "mlflow models serve",
        [python, "-m", "mlflow", "models", "serve", "-m", f"models:/{MODEL}@champion",
         "--env-manager", "local", "-p", str(port)],
        "/invocations", split.encode(), "/ping", port, {
            "MLFLOW_TRACKING_URI": uri,
            # it starts uvicorn by its bare name
            "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
        },
    )  # fmt: skip
    found = [
        ours(PLAIN), ours(SHADOW, "--shadow-share", "1"), noop, unlogged,
        ours("ours, 2 workers", "--workers", "2"),
    ]  # fmt: skip
    if given.against:
        found.insert(1, ours("ours, the other revision", PYTHONPATH=str(given.against)))
    if given.postgres:
        found.append(ours("ours, PostgreSQL", log=given.postgres))
    found += [tutorial, mlflow]
    if given.mlserver:
        found.append(_mlserver(folder, wine, given.mlserver))
    return found


def _mlserver(folder: Path, wine: dict[str, Any], command: str) -> Peer:
    """MLServer's own scikit-learn runtime on the same trees; it has no place for a text column."""
    import joblib

    place = folder / "mlserver"
    place.mkdir()
    port = free_port()
    model = pickle.loads((folder / "model.pickle").read_bytes())
    joblib.dump(model[-1], place / "model.joblib")
    settings = {
        "http_port": port, "grpc_port": free_port(), "metrics_port": free_port(),
        "debug": False, "parallel_workers": 0,
    }  # fmt: skip
    (place / "settings.json").write_text(json.dumps(settings))
    (place / "model-settings.json").write_text(
        json.dumps(
            {"name": MODEL, "implementation": "mlserver_sklearn.SKLearnModel",
             "parameters": {"uri": "./model.joblib"}}
        )
    )  # fmt: skip
    numbers = [v for k, v in wine.items() if k != "type"] + [1.0, 0.0]
    body = {"inputs": [{"name": "x", "shape": [1, 13], "datatype": "FP32", "data": numbers}]}
    return Peer(
        "MLServer", [command, "start", str(place)], f"/v2/models/{MODEL}/infer",
        json.dumps(body).encode(), f"/v2/models/{MODEL}/ready", port, cwd=place,
    )  # fmt: skip


def batches(
    folder: Path, services: Sequence[Peer], model: Any, wines: list[dict[str, Any]]
) -> None:
    """A batch of 1,000 wines against the bare call of the model on them."""
    import pandas as pd

    from wine_quality.serving.served_model import OnnxEngine
    from wine_quality.wines import MEASUREMENT_NAMES

    frame = pd.DataFrame(wines)
    types = frame["type"].tolist()
    measurements = frame[list(MEASUREMENT_NAMES)].to_numpy()
    engine = OnnxEngine((folder / "model.onnx").read_bytes())
    body = json.dumps({"wines": wines}).encode()

    def send(peer: Peer) -> None:
        url = f"http://127.0.0.1:{peer.port}/predict/batch"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request).read()

    calls: dict[str, Callable[[], Any]] = {
        "bare ONNX Runtime": lambda: engine(types, measurements),
        "bare scikit-learn": lambda: model.predict(frame),
    }
    for peer in services:
        if peer.logs:
            calls[f"POST /predict/batch, {peer.name}"] = partial(send, peer)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(25):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(1000 * (time.perf_counter() - start))
    bare = seconds["bare ONNX Runtime"]
    print("\n| 1,000 wines at once | median ms | it / bare ONNX Runtime, median |\n|---|--:|--:|")
    for name, found in seconds.items():
        ratio = statistics.median(ours / its for ours, its in zip(found, bare, strict=True))
        print(f"| {name} | {statistics.median(found):.1f} | {ratio:.2f}× |")


def shadows(
    folder: Path, plain: Peer, shadow: Peer, saturation: float, given: argparse.Namespace
) -> None:
    """What a shadow of all requests costs those who ask, below saturation and under overload."""
    print(
        f"\n{2 * given.rounds} rounds of {given.seconds:g} s in turn; all latencies of a load "
        "together; intervals by bootstrap over the rounds\n"
    )
    print(
        "| load | p50 ms, without / with | p99 ms, without / with | p50, with / without (95 %) "
        "| p99, with / without (95 %) | CPU ms a request, without / with "
        "| shadow answers logged, dropped | errors |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    loads = [
        (f"{share:.0%} of saturation, {share * saturation:,.0f}/s", 64, share * saturation)
        for share in BELOW
    ]
    for name, connections, rate in [*loads, (f"{OVERLOAD} connections", OVERLOAD, 0)]:
        before = {fate: shadow.figure(FATE.format(fate)) for fate in ("written", "dropped")}
        found: list[list[dict[str, Any]]] = [[], []]
        for i in range(2 * given.rounds):
            # who is measured first has a machine that has just rested
            for k in (0, 1) if i % 2 else (1, 0):
                peer = (plain, shadow)[k]
                found[k].append(peer.measure(folder, connections, given.seconds, rate))
        time.sleep(2)
        fates = {fate: shadow.figure(FATE.format(fate)) - n for fate, n in before.items()}
        without, with_it = ([np.array(r["latencies"]) for r in each] for each in found)
        cells = [_percentiles(without, with_it, q) for q in (50, 99)]
        cells += [_ratio(without, with_it, q) for q in (50, 99)]
        cpu = (statistics.median(r["cpu_ms"] for r in each) for each in found)
        cells.append(" / ".join(f"{ms:.2f}" for ms in cpu))
        errors = sum(
            n
            for r in chain(*found)
            for status, n in r["statuses"].items()
            if status != "200"
        )  # fmt: skip
        print(
            f"| {name} | {' | '.join(cells)} | {fates['written']:,.0f}, {fates['dropped']:,.0f} "
            f"| {errors} |"
        )


Latencies = Sequence[NDArray[np.float64]]


def _percentiles(without: Latencies, with_it: Latencies, q: float) -> str:
    return " / ".join(f"{np.percentile(np.concatenate(x), q):.1f}" for x in (without, with_it))


def _ratio(without: Latencies, with_it: Latencies, q: float) -> str:
    """Ratio of percentiles, with its interval: rounds are drawn again, both of a pair together."""
    rng = np.random.default_rng(1)
    n = len(without)

    def ratio(rounds: Sequence[int]) -> float:
        both = ([x[i] for i in rounds] for x in (without, with_it))
        a, b = (np.percentile(np.concatenate(x), q) for x in both)
        return float(b / a)

    drawn = [ratio(rng.integers(n, size=n).tolist()) for _ in range(500)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{ratio(range(n)):.2f} ({low:.2f}–{high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mlserver", default="", help="its command, from a venv of its own")
    parser.add_argument("--postgres", default="", help="URL of an empty database")
    parser.add_argument(
        "--against", type=Path, help="source folder of another revision of ours, to be measured too"
    )
    parser.add_argument(
        "--only", nargs="+", default=[""], help="measure the services that begin like these"
    )
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=1, help="n_jobs of the trees")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="serving-benchmark-") as name:
        folder = Path(name)
        model, wines = train(folder, given.trees, given.jobs)
        services = peers(folder, wines[0], given)
        services = [p for p in services if p.name.startswith(tuple(given.only))]
        try:
            for peer in services:
                peer.start(folder)
                peer.measure(folder, given.connections, 1)
            found: dict[str, list[dict[str, Any]]] = {p.name: [] for p in services}
            for _ in range(given.rounds):
                for peer in services:
                    found[peer.name].append(peer.measure(folder, given.connections, given.seconds))
            report(found, services[0].name, given)
            batches(folder, services, model, wines)
            by_name = {peer.name: peer for peer in services}
            if {PLAIN, SHADOW} <= by_name.keys():
                saturation = statistics.median(r["rps"] for r in found[PLAIN])
                shadows(folder, by_name[PLAIN], by_name[SHADOW], saturation, given)
        finally:
            for peer in services:
                peer.stop()


def report(found: dict[str, list[dict[str, Any]]], first: str, given: argparse.Namespace) -> None:
    print(
        f"\n{given.rounds} rounds of {given.seconds:g} s in turn, {given.connections} connections, "
        f"one wine a request, {given.trees} trees, n_jobs={given.jobs}\n"
    )
    print(
        f"| service | requests/s | p50 ms | p99 ms | {first} / it (least–most) "
        "| CPU ms a request (least–most) | errors |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, rounds in found.items():
        rps = [r["rps"] for r in rounds]
        ratios = [ours["rps"] / r for ours, r in zip(found[first], rps, strict=True)]
        p50, p99 = (statistics.median(r[p] for r in rounds) for p in ("p50", "p99"))
        cpu = [r["cpu_ms"] for r in rounds]
        errors = sum(n for r in rounds for status, n in r["statuses"].items() if status != "200")
        print(
            f"| {name} | {statistics.median(rps):,.0f} | {p50:.1f} | {p99:.1f} | "
            f"{statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f}) | "
            f"{statistics.median(cpu):.2f} ({min(cpu):.2f}–{max(cpu):.2f}) | {errors} |"
        )


if __name__ == "__main__":
    main()
