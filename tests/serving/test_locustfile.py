"""The load test itself: that it finds a sound service sound, and a careless one careless."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
INVALID = "/predict (invalid)"


def load(url: str, folder: Path) -> tuple[int, dict[str, dict[str, str]]]:
    """Load a service for some seconds; locust's exit status, and its figures by request."""
    command = [sys.executable, "-m", "locust", "--headless", "--only-summary", "--host", url]
    command += [
        "--users",
        "10",
        "--spawn-rate",
        "10",
        "--run-time",
        "10s",
        "--csv",
        str(folder / "x"),
    ]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False
    )
    with (folder / "x_stats.csv").open() as lines:
        figures = {row["Name"]: row for row in csv.DictReader(lines)}
    assert figures, done.stderr
    return done.returncode, figures


@pytest.mark.slow
def test_a_sound_service_fails_no_request(registered, settings, serve, tmp_path) -> None:
    registered.add()
    status, figures = load(serve(settings).url, tmp_path)
    assert status == 0
    # the rarer ones may not have had their turn on a busy machine
    assert {"/predict", INVALID, "/predict/batch"} <= set(figures)
    assert figures["Aggregated"]["Failure Count"] == "0"
    assert all(int(row["Request Count"]) > 0 for row in figures.values())


class Careless(BaseHTTPRequestHandler):
    """Answers everything, whatever it is asked, as if it were a wine of quality 5."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prediction = {"prediction_id": "0", "prediction": 5.0}
        wines = body.get("wines", [])
        self._answer({**prediction, "predictions": [prediction for _ in wines]})

    def _answer(self, content: dict[str, Any]) -> None:
        answer = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def careless(serve_http) -> Iterator[str]:
    with serve_http(Careless) as address:
        yield address


@pytest.mark.slow
def test_answering_what_is_no_wine_is_a_failure(careless, tmp_path) -> None:
    status, figures = load(careless, tmp_path)
    assert status == 1
    failed = {name: int(row["Failure Count"]) for name, row in figures.items()}
    assert failed[INVALID] == int(figures[INVALID]["Request Count"]) > 0
    assert failed["Aggregated"] == failed[INVALID]
