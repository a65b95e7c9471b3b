"""Start two trainings at once, many times: does each decide about its own version?

    python benchmarks/two_trainings.py [--pairs 50]

One training fits small forests, the other a stump. Each pair has a registered model of its own; the
second training starts 0 to 10 s after the first, in steps of one second, and either may be the
first. Three places take turns: two folders with one SQLite registry, two folders with one MLflow
server, and one folder. A pair is right if both processes end with status 0, each decides about the
version that its own MLflow run registered, and the forests are champion. Prints Markdown; ends with
status 1 if a pair is wrong.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient

PROJECT = Path(__file__).parents[1]
CANDIDATES = {
    "forests": "extra_trees_regressor",
    "stump": "decision_tree_classifier",
}
PARTICIPANTS = ("extra_trees_regressor", "decision_tree_classifier", "k_neighbors_regressor")
SHORT = (
    "training.comparison.cross_validation.folds=2",
    "training.analysis.bootstrap_resamples=100",
    "training.analysis.permutation_repeats=2",
)
LIBRARIES = [
    *("kedro.framework.cli.cli", "kedro_mlflow", "mlflow.sklearn", "sklearn.ensemble"),
    *("sklearn.inspection", "skops.io", "onnx", "onnxruntime", "plotly.graph_objects"),
    *("pandera.pandas", "pyarrow.parquet"),
]
LONGEST_OFFSET_S = 10
TIMEOUT_S = 900
DECISION = re.compile(r"version (\d+) is (champion|challenger)")
ENVIRONMENT = {
    "globals.yml": "root: ${oc.env:PAIR_ROOT}\nregistered_model: ${oc.env:PAIR_MODEL}\n",
    "mlflow.yml": "server:\n  mlflow_tracking_uri: ${oc.env:PAIR_TRACKING}\n",
    # the lock of a server's registry: one database for both
    "credentials.yml": (
        "inference_log:\n  url: sqlite:///${oc.env:PAIR_DATABASE}\n"
        "monitoring:\n  url: sqlite:///${oc.env:PAIR_DATABASE}\n"
        "studies:\n  url: sqlite:///${oc.env:PAIR_DATABASE}.studies\n"
    ),
}


@dataclass(frozen=True)
class Place:
    """Where two trainings meet.

    Attributes:
        name: What it is called in the table.
        tracking: MLflow's address.
        roots: The folder of each training, by what it fits.
        database: The SQLite file of the lock.
    """

    name: str
    tracking: str
    roots: dict[str, Path]
    database: Path


@dataclass(frozen=True)
class Training:
    """A training that has ended."""

    status: int
    output: str

    @property
    def decision(self) -> tuple[str, str] | None:
        """The version that it decided about, and what that became."""
        found = DECISION.search(self.output)
        return (found[1], found[2]) if found else None


def main() -> None:
    """Run all pairs, print each that is wrong and the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=50)
    pairs = parser.parse_args().pairs
    wrong = 0
    seconds: dict[str, list[float]] = {}
    outcomes: dict[str, int] = {}
    with TemporaryDirectory() as folder:
        conf = make_configuration(Path(folder))
        with make_places(Path(folder), conf) as places:
            for number in range(pairs):
                place = places[number % len(places)]
                offset = number // len(places) % (LONGEST_OFFSET_S + 1)
                first = list(CANDIDATES)[number % 2]
                began = time.monotonic()
                faults = run_pair(conf, place, number, first, offset)
                seconds.setdefault(place.name, []).append(time.monotonic() - began)
                outcomes[place.name] = outcomes.get(place.name, 0) + (not faults)
                wrong += bool(faults)
                state = "; ".join(faults) or "right"
                line = f"pair {number}, {place.name}, {first} first, {offset} s: {state}"
                print(line, file=sys.stderr, flush=True)
    print("| place | pairs | right | seconds a pair, mean |\n|---|--:|--:|--:|")
    for name, took in seconds.items():
        print(f"| {name} | {len(took)} | {outcomes[name]} | {sum(took) / len(took):.0f} |")
    sys.exit(wrong > 0)


def make_configuration(folder: Path) -> Path:
    """Copy `conf/` with one environment more, `pair`, like `test`."""
    conf = Path(shutil.copytree(PROJECT / "conf", folder / "conf"))
    shutil.copytree(conf / "test", conf / "pair")
    for name, text in ENVIRONMENT.items():
        (conf / "pair" / name).write_text(text)
    return conf


@contextmanager
def make_places(folder: Path, conf: Path) -> Iterator[list[Place]]:
    """Make the folders with processed wines, a SQLite registry and a server."""
    wines = folder / "wines"
    place = Place("wines", f"sqlite:///{wines}/mlflow.db", {"": wines}, wines / "db")
    made = wait(start(conf, place, "", "none", folder / "wines.log"), folder / "wines.log")
    assert made.status == 0, made.output
    roots = {
        name: Path(shutil.copytree(wines, folder / name))
        for name in ("sqlite_a", "sqlite_b", "server_a", "server_b", "one")
    }
    with start_server(folder) as server:
        yield [
            Place(
                "two folders, SQLite",
                f"sqlite:///{roots['sqlite_a']}/mlflow.db",
                {"forests": roots["sqlite_a"], "stump": roots["sqlite_b"]},
                folder / "sqlite.db",
            ),
            Place(
                "two folders, MLflow server",
                server,
                {"forests": roots["server_a"], "stump": roots["server_b"]},
                folder / "server.db",
            ),
            Place(
                "one folder",
                f"sqlite:///{roots['one']}/mlflow.db",
                dict.fromkeys(CANDIDATES, roots["one"]),
                folder / "one.db",
            ),
        ]


@contextmanager
def start_server(folder: Path) -> Iterator[str]:
    """Start an MLflow server on loopback, and stop it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.mlflow.db"]
    command += ["--artifacts-destination", str(folder / "server_artifacts")]
    address = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("wb") as log:
        # without its processes for jobs, which nothing here asks for
        env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while not answers(f"{address}/health"):
                assert time.monotonic() < deadline, (folder / "server.log").read_text()
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def answers(address: str) -> bool:
    """Tell whether a page answers with 200."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def start(conf: Path, place: Place, fits: str, model: str, log: Path) -> BaseProcess:
    """Start a training, or without anything to fit the processing before it."""
    options = ["--pipelines", "training" if fits else "processing"]
    if fits:
        others = [name for name in PARTICIPANTS if name != CANDIDATES[fits]]
        settings = [*SHORT, *(f"training.candidates.{name}.enabled=false" for name in others)]
        if fits == "stump":
            settings.append("training.candidates.decision_tree_classifier.settings.max_depth=1")
        options += ["--params", ",".join(settings)]
    variables = {
        "PAIR_ROOT": str(place.roots[fits]),
        "PAIR_MODEL": model,
        "PAIR_TRACKING": place.tracking,
        "PAIR_DATABASE": str(place.database),
        "COLUMNS": "240",
    }
    arguments = ["run", "--conf-source", str(conf), "--env", "pair", *options]
    # a server that has the libraries imported saves each process ten seconds of processor time
    context = get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    process = context.Process(target=run_kedro, args=(arguments, variables, log))
    process.start()
    return process


def run_kedro(arguments: list[str], variables: dict[str, str], log: Path) -> None:
    """Run a command of Kedro in this process."""
    os.environ.update(variables)
    os.chdir(PROJECT)
    with log.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    from kedro.framework.cli.cli import KedroCLI

    KedroCLI(PROJECT).main(arguments, prog_name="kedro")


def wait(process: BaseProcess, log: Path) -> Training:
    """Wait until a training ends."""
    process.join(TIMEOUT_S)
    if process.exitcode is None:
        process.kill()
        process.join()
    return Training(process.exitcode or 0, log.read_text())


def run_pair(conf: Path, place: Place, number: int, first: str, offset: float) -> list[str]:
    """Run two trainings; list what is wrong."""
    model = f"pair-{number}"
    second = next(name for name in CANDIDATES if name != first)
    logs = {name: conf.parent / f"{model}-{name}.log" for name in CANDIDATES}
    processes = {first: start(conf, place, first, model, logs[first])}
    time.sleep(offset)
    processes[second] = start(conf, place, second, model, logs[second])
    ended = {name: wait(process, logs[name]) for name, process in processes.items()}
    return list(find_faults(MlflowClient(place.tracking), model, place, ended))


def find_faults(
    client: MlflowClient, model: str, place: Place, ended: dict[str, Training]
) -> Iterator[str]:
    """Say what is wrong with a pair."""
    for name, training in ended.items():
        if training.status != 0 or "Traceback" in training.output:
            yield f"{name} ended with status {training.status}: {training.output[-2000:]}"
        elif training.decision is None:
            yield f"{name} has not said what it decided: {training.output[-2000:]}"
        else:
            version = client.get_model_version(model, training.decision[0])
            if version.tags.get("candidate") != CANDIDATES[name]:
                yield f"{name} decided about version {version.version}, which is the other's"
            # in one folder the file is of the run that ended last
            report = json.loads((place.roots[name] / "08_reporting/promotion.json").read_text())
            if len(set(place.roots.values())) > 1 and report["run_id"] != version.run_id:
                yield f"{name} reports run {report['run_id']}, not {version.run_id}"
    if all(training.status == 0 for training in ended.values()):
        champion = client.get_model_version_by_alias(model, "champion")
        if champion.tags.get("candidate") != CANDIDATES["forests"]:
            yield f"the champion is {champion.tags.get('candidate')}"


if __name__ == "__main__":
    main()
