"""One champion, and whatever hosts it: a service, MLflow's server, an AWS that is none."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from wine_quality.modelling.registry import ModelRegistry, TrainedModel
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.predictor import Predictor
from wine_quality.serving.settings import ServiceSettings
from wine_quality.traffic.backends import BackendContext

REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class Hosted:
    """A champion in a registry of its own."""

    tracking_uri: str
    champion: Predictor


@pytest.fixture(scope="session")
def hosted(
    tmp_path_factory: pytest.TempPathFactory, trained: tuple[pd.DataFrame, Any, bytes]
) -> Hosted:
    """The champion of `wine-quality`, version 1, as it is loaded from the registry."""
    import mlflow
    from mlflow import MlflowClient
    from mlflow.tracking._tracking_service import utils

    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder}/mlflow.db"
    wines, model, _ = trained
    with utils._use_tracking_uri(uri):
        experiment = MlflowClient(uri).create_experiment("tests", (folder / "artifacts").as_uri())
        registry = ModelRegistry("wine-quality")
        with mlflow.start_run(experiment_id=experiment):
            version = registry.register(TrainedModel(model, wines, {"held_out_mae": "0.5"}))
        registry.set_alias("champion", version.version)
        champion = registry.champion()
    return Hosted(uri, Predictor(champion.model, "wine-quality", version.version))


@pytest.fixture
def model(hosted: Hosted) -> Callable[[pd.DataFrame], Any]:
    """What the champion answers."""
    return hosted.champion.predict


@pytest.fixture
def log(tmp_path: Path) -> Iterator[InferenceLog]:
    """A log that nobody has written to yet."""
    with InferenceLog(f"sqlite:///{tmp_path}/inference.db") as log:
        yield log


@pytest.fixture
def logged(log: InferenceLog) -> Callable[[], pd.DataFrame]:
    """Reads the log."""
    return log.read


@pytest.fixture
def context(hosted: Hosted, log: InferenceLog) -> BackendContext:
    """What a run lends."""
    return BackendContext(predictor=hosted.champion, log=log)


@pytest.fixture(scope="session")
def service_settings(hosted: Hosted, tmp_path_factory: pytest.TempPathFactory) -> ServiceSettings:
    """Settings of a service with the champion, and a log of its own."""
    folder = tmp_path_factory.mktemp("service-log")
    return ServiceSettings(
        tracking_uri=hosted.tracking_uri, log_url=f"sqlite:///{folder}/log.db", batch_limit=500
    )


@pytest.fixture(scope="session")
def service(service_settings: ServiceSettings, start_services: Callable[[], Any]) -> Iterator[Any]:
    """The service as a process; takes 500 wines a request."""
    with start_services() as start:
        yield start(service_settings)


@pytest.fixture
def service_log(service_settings: ServiceSettings) -> Iterator[InferenceLog]:
    """The service's log, to look into."""
    with InferenceLog(service_settings.log_url) as log:
        yield log


@pytest.fixture(scope="session")
def mlflow_server(
    hosted: Hosted,
    tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
    run_server: Callable[..., AbstractContextManager[Any]],
) -> Iterator[str]:
    """The URL of `just serve-mlflow` with the champion."""
    lines = tmp_path_factory.mktemp("mlflow-server") / "server.log"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": hosted.tracking_uri}
    command = ["just", "serve-mlflow", str(port)]
    with run_server(command, f"{url}/ping", lines, cwd=REPOSITORY, env=environment):
        yield url


@dataclass
class Stub:
    """A server that answers what it is told to.

    Attributes:
        url: Where it is.
        answer: Status, headers and body; a body of None ends the connection without an answer, and
            a number waits so many seconds first.
        asked: Method, path, headers and body of all requests.
    """

    url: str
    answer: tuple[int, dict[str, str], bytes | float | None] = (200, {}, b"")
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def stub(serve_http) -> Iterator[Stub]:
    """A server on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.asked.append((self.command, self.path, headers, body))
            status, extra, content = found.answer
            if content is None:
                self.close_connection = True
                return
            if isinstance(content, float):
                gone.wait(content)
                content = b""
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **extra}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    gone = threading.Event()
    with serve_http(Handler) as address:
        found = Stub(address)
        yield found
        gone.set()
