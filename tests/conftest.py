"""What tests of several packages share: wines, a registry of their own, a runner of pipelines."""

import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pandas as pd
import psutil
import pytest
import sqlalchemy as sa
from hypothesis import settings
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner
from pandas.testing import assert_frame_equal

from tests.serving.browser import Phone
from wine_quality.modelling.candidates import Candidate, build_model
from wine_quality.modelling.onnx_export import export
from wine_quality.modelling.registry import ModelRegistry
from wine_quality.serving.settings import ServiceSettings
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import INPUTS

# read by libraries when they are imported
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
# a server of the tests needs one process, and none for jobs: each imports MLflow for seconds
os.environ.setdefault("MLFLOW_WORKERS", "1")
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests begin first, so that no process is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


# a busy machine is no failure
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@contextmanager
def _root_handlers_kept() -> Iterator[None]:
    """Undo that Prefect has the root logger write to the console of a test, and to nothing else."""
    before = logging.root.handlers[:]
    yield
    for handler in logging.root.handlers[:]:
        if type(handler).__module__.startswith("prefect."):
            logging.root.removeHandler(handler)
            for former in before:
                # those that are there are not added again
                logging.root.addHandler(former)


@pytest.fixture(autouse=True)
def _own_root_handlers() -> Iterator[None]:
    with _root_handlers_kept():
        yield


RunPipeline = Callable[[Pipeline, Mapping[str, Any]], dict[str, Any]]


@pytest.fixture(scope="session")
def _drawn_wines() -> pd.DataFrame:
    return draw_wines(240, 11, duplicates=True, missing=True)


@pytest.fixture
def labelled_wines(_drawn_wines: pd.DataFrame) -> pd.DataFrame:
    """240 wines of both types, with quality, some exact duplicates and some missing values."""
    return _drawn_wines.copy()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real files, with the subfolders uci and kaggle."""
    folder = os.environ.get("WINE_QUALITY_DATA")
    if not folder or not all((Path(folder) / name).is_dir() for name in ("uci", "kaggle")):
        pytest.skip("WINE_QUALITY_DATA names no folder with the real files in uci/ and kaggle/")
    return Path(folder)


@pytest.fixture(scope="session")
def empty_tracking_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database without an experiment of ours, to be copied: its tables take seconds."""
    from mlflow import MlflowClient

    database = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture(scope="session")
def _tracking_server(
    tmp_path_factory: pytest.TempPathFactory, empty_tracking_database: Path
) -> tuple[str, str]:
    """A tracking database that tests share, and the id of its experiment."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copy(empty_tracking_database, folder)
    uri = f"sqlite:///{folder}/mlflow.db"
    experiment = MlflowClient(uri).create_experiment(
        "tests", artifact_location=(folder / "artifacts").as_uri()
    )
    return uri, experiment


@pytest.fixture
def experiment_id(_tracking_server: tuple[str, str]) -> Iterator[str]:
    """Has MLflow write to a database of the tests, and names the experiment for their runs."""
    import mlflow
    from mlflow.tracking._tracking_service import utils

    uri, experiment = _tracking_server
    with utils._use_tracking_uri(uri):
        yield experiment
        while mlflow.active_run():
            mlflow.end_run("FAILED")


@pytest.fixture
def registry(experiment_id: str) -> ModelRegistry:
    """A registered model without versions."""
    return ModelRegistry(f"wine-{uuid4().hex}")


class _Kept(MemoryDataset):
    """A memory dataset that outlives the run, and hands out the very object that was saved."""

    def __init__(self, *data: Any) -> None:
        super().__init__(*data, copy_mode="assign")

    def _release(self) -> None:
        pass


@pytest.fixture(scope="session")
def run_pipeline() -> RunPipeline:
    """Runs a pipeline on a tiny catalog.

    Takes the pipeline and its inputs, values or datasets by name (outputs may have datasets, too);
    gives all that the run has made, by name. Asserts that no node changed an input.
    """

    def run(pipeline: Pipeline, inputs: Mapping[str, Any]) -> dict[str, Any]:
        given = {
            name: value if isinstance(value, AbstractDataset) else _Kept(value)
            for name, value in inputs.items()
        }
        made = {name: _Kept() for name in sorted(pipeline.datasets() - given.keys())}
        before = {
            name: value.copy() for name, value in inputs.items() if isinstance(value, pd.DataFrame)
        }
        SequentialRunner().run(pipeline, DataCatalog({**given, **made}))
        for name, frame in before.items():
            assert_frame_equal(inputs[name], frame)
        return {name: dataset.load() for name, dataset in made.items()}

    return run


@dataclass(frozen=True)
class Store:
    """A bucket of an object store, where a test has all rights.

    Attributes:
        endpoint: Where the store answers.
        bucket: Name of the bucket.
        files: The store, as fsspec has it.
    """

    endpoint: str
    bucket: str
    files: Any

    @property
    def address(self) -> str:
        """The bucket's address."""
        return f"s3://{self.bucket}"


@pytest.fixture(scope="session")
def _store_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    # it tells of every request
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty bucket, of which the process environment tells, as a team's would."""
    s3fs = pytest.importorskip("s3fs", reason="S3 is an extra: ./just extras")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    endpoint = request.getfixturevalue("_store_server")
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "cellar",
        "AWS_SECRET_ACCESS_KEY": "open-sesame",
        "AWS_DEFAULT_REGION": "us-east-1",
        # nobody asks the network who this machine is
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    # a client keeps the credentials that it was made with
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"wines-{uuid4().hex}"
    files = s3fs.S3FileSystem(use_listings_cache=False)
    files.mkdir(bucket)
    yield Store(endpoint, bucket, files)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def postgres_schema():
    """Opens a schema of its own in the PostgreSQL that the tests were given, and drops it again."""

    @contextmanager
    def open_schema(purpose):
        server = os.environ.get("WINE_QUALITY_TEST_POSTGRES_URL")
        if not server:
            pytest.skip(f"set WINE_QUALITY_TEST_POSTGRES_URL to {purpose}")
        schema = f"test_{uuid4().hex}"
        url = sa.make_url(server).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        yield url.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(
            hide_password=False
        )
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
        engine.dispose()

    return open_schema


@pytest.fixture(scope="session")
def trained() -> tuple[pd.DataFrame, Any, bytes]:
    """240 wines with a model's predictions, the model, and the model as ONNX."""
    wines = draw_wines(240, 11, duplicates=True, missing=True)
    candidate = Candidate(
        estimator="sklearn.ensemble.ExtraTreesRegressor",
        settings={"n_estimators": 20, "min_samples_leaf": 3},
    )
    model = build_model(candidate, seed=0).fit(wines[list(INPUTS)], wines["quality"])
    content = export(model, wines).content
    assert content is not None
    return wines.assign(prediction=model.predict(wines[list(INPUTS)])), model, content


def find_free_port() -> int:
    """Find a loopback port on which nobody listens.

    None of those that the system gives to clients: whoever asks such a port again and again whether
    it answers is some day given that very port, and connected to himself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def start_process(
    command: Sequence[str], health: str, lines: Path, **options: Any
) -> "subprocess.Popen[bytes]":
    """Start a server in a session of its own, and wait until its health page answers with 200.

    Args:
        command: What starts it.
        health: Address of the page.
        lines: File for what it prints.
        options: For `Popen`.
    """
    with lines.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, **options
        )
    try:
        deadline = time.monotonic() + 180
        # one client without certificates: to read these for each question costs more than to wait
        with httpx.Client(verify=False, timeout=5) as client:
            while not _answers(client, health):
                assert process.poll() is None, lines.read_text()
                assert time.monotonic() < deadline, f"{health} is silent: {lines.read_text()}"
                time.sleep(0.05)
    except BaseException:
        end_process(process)
        raise
    return process


def _answers(client: httpx.Client, address: str) -> bool:
    try:
        return client.get(address).status_code == 200
    except httpx.TransportError:
        return False


def end_process(process: "subprocess.Popen[bytes]") -> None:
    """Kill the processes of a session, also those in groups of their own, and wait for its first.

    Args:
        process: The first one of a session of its own.
    """
    for other in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(other) == process.pid:
                os.kill(other, signal.SIGKILL)
    process.wait(60)


@pytest.fixture(scope="session", name="end_process")
def give_end_process() -> Callable[["subprocess.Popen[bytes]"], None]:
    """Kills a process and all that it started."""
    return end_process


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Finds a port on which nobody listens."""
    return find_free_port


@pytest.fixture(scope="session")
def serve_http() -> Callable[..., AbstractContextManager[str]]:
    """Has a handler of `http.server` answer while a `with` block lasts; gives the address."""

    @contextmanager
    def serve(handler: Any) -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()

    return serve


@pytest.fixture(scope="session")
def serve_posts(serve_http):
    """Has a server while a `with` block lasts; gives its address.

    Takes what answers a post: a function of its headers and body that gives status, headers, body.
    """

    @contextmanager
    def serve(answer: Callable[[Any, bytes], tuple[int, dict[str, str], str]]) -> Iterator[str]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, said = answer(self.headers, body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(said))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said.encode())

            def log_message(self, *_: object) -> None:
                pass

        with serve_http(Handler) as address:
            yield f"{address}/"

    return serve


@pytest.fixture(scope="session")
def run_server() -> Callable[..., AbstractContextManager["subprocess.Popen[bytes]"]]:
    """Has a server while a `with` block lasts; takes what `start_process` takes."""

    @contextmanager
    def run(*arguments: Any, **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
        process = start_process(*arguments, **options)
        try:
            yield process
        finally:
            end_process(process)

    return run


class Server:
    """The service as a process, like a person starts it.

    Args:
        settings: Its settings; the port is a free one.
        folder: For its log lines.
    """

    def __init__(self, settings: ServiceSettings, folder: Path) -> None:
        self.port = find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_url = settings.log_url
        self.lines = folder / f"service-{self.port}.log"
        self._environment = {
            **os.environ, **settings.to_environment(), "WINE_QUALITY_PORT": str(self.port)
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.process = start_process(
            [sys.executable, "-m", "wine_quality.serving", "serve"],
            f"{self.url}/health/ready",
            self.lines,
            env=self._environment,
        )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it, and every process it started; its exit status."""
        if self.process is None:
            return 0
        if how is signal.SIGKILL:
            os.killpg(self.process.pid, how)
        else:
            self.process.send_signal(how)
        return self.process.wait(60)


@pytest.fixture(scope="session")
def start_services(tmp_path_factory):
    """Opens a place from which services are started, and which stops them when it is left."""

    @contextmanager
    def open_place():
        folder, started = tmp_path_factory.mktemp("services"), []

        def start(settings: ServiceSettings) -> Server:
            server = Server(settings, folder)
            started.append(server)
            server.start()
            return server

        try:
            yield start
        finally:
            for server in started:
                if server.process is not None:
                    end_process(server.process)

    return open_place


@pytest.fixture(scope="session")
def _prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # one for the whole process: Prefect reads its name once, when it is imported
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def prefect_server(_prefect_home: Path) -> Iterator[str]:
    """A Prefect server of the tests, which this process and those it starts are set to; its API.

    It ends with the file's tests: one that idles takes a tenth of a core.
    """
    port = find_free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(_prefect_home))
        # asked for more often than every ten seconds, so that a test need not wait for that long
        patch.setenv("PREFECT_RUNNER_POLL_FREQUENCY", "1")
        patch.delenv("PREFECT_API_URL", raising=False)
        from wine_quality.orchestration.server import local_server

        with local_server(port) as address:
            patch.setenv("PREFECT_API_URL", address)
            yield address


@pytest.fixture
def phone() -> Iterator[Phone]:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("WINE_QUALITY_TEST_CHROMIUM", "/usr/bin/chromium")
    if not Path(chromium).exists():
        pytest.skip("set WINE_QUALITY_TEST_CHROMIUM to a Chromium to look at the pages")
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield Phone(browser.new_page(viewport={"width": 390, "height": 844}))
        browser.close()
