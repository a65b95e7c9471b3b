import json
import socket
import time
from http.server import BaseHTTPRequestHandler

import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request_safe

from wine_quality.errors import WineQualityError
from wine_quality.modelling import tracking_server
from wine_quality.modelling.tracking_server import check_server, describe_server_trouble

LOOKED_FOR = (
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or ~/.mlflow/credentials), or "
    "MLFLOW_TRACKING_TOKEN"
)
NAMED_BY = "MLFLOW_TRACKING_URI"
JSON, HTML = "application/json", "text/html; charset=utf-8"


@pytest.fixture(autouse=True)
def _own_credentials(monkeypatch, tmp_path):
    monkeypatch.setattr(tracking_server, "PATIENCE", 0.6)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("USERNAME", "PASSWORD", "TOKEN", "AUTH"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)


@pytest.fixture
def answering(serve_http):
    """Serves answers (status, type, body), one a request and the last for ever; notes headers."""

    def serve(*answers, asked=None):
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                if asked is not None:
                    asked.append((self.path, self.headers.get("Authorization")))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, kind, body = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        return serve_http(Handler)

    return serve


def refused(address: str) -> str:
    with pytest.raises(WineQualityError) as caught:
        check_server(address, NAMED_BY)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"The MLflow server {address} ")
    return message.removeprefix(f"The MLflow server {address} ")


def test_a_server_that_answers_is_asked_once(answering):
    asked = []
    with answering((200, JSON, "{}"), asked=asked) as address:
        check_server(address, NAMED_BY)
    assert asked == [("/api/2.0/mlflow/experiments/search", None)]


def test_an_older_server_that_does_not_like_the_question_is_one(answering):
    body = json.dumps({"error_code": "ENDPOINT_NOT_FOUND"})
    with answering((404, JSON, body)) as address:
        check_server(address, NAMED_BY)


def test_a_server_that_is_starting_is_asked_again(answering, monkeypatch):
    monkeypatch.setattr(tracking_server, "PATIENCE", 60.0)
    with answering((503, HTML, "starting"), (200, JSON, "{}")) as address:
        check_server(address, NAMED_BY)


def test_nobody_listens(free_port):
    address = f"http://127.0.0.1:{free_port()}"
    assert refused(address) == (
        "does not answer (Connection refused): see that it runs and can be reached from here, or "
        "correct MLFLOW_TRACKING_URI."
    )


def test_a_name_that_nobody_has():
    assert refused("http://no-such-host.invalid:5000").startswith("does not answer (")


def test_a_server_that_takes_the_connection_and_says_nothing(monkeypatch):
    monkeypatch.setattr(tracking_server, "TRY_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        said = refused(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert said.startswith("does not answer (timed out): see that it runs")
    # MLflow's client alone would take four minutes
    assert time.monotonic() - start < 120


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            (502, HTML, "<html><title>Bad gateway</title></html>"),
            "answers with 502 Bad Gateway: the gateway before it does not reach it; see that it "
            "runs and can be reached from here, or correct MLFLOW_TRACKING_URI.",
        ),
        (
            (500, JSON, '{"error_code": "INTERNAL_ERROR"}'),
            "answers with 500 Internal Server Error: see that it runs and can be reached from "
            "here, or correct MLFLOW_TRACKING_URI.",
        ),
        (
            (401, HTML, "You are not authenticated."),
            f"answers with 401 Unauthorized: no credentials were found; set {LOOKED_FOR}.",
        ),
        (
            (403, JSON, '{"error_code": "PERMISSION_DENIED"}'),
            f"answers with 403 Forbidden: no credentials were found; set {LOOKED_FOR}.",
        ),
        (
            (404, HTML, "<h1>Not found</h1>"),
            "answers with 404 Not Found: see that MLFLOW_TRACKING_URI is the address of MLflow "
            "itself.",
        ),
        (
            (404, JSON, '{"detail": "Not Found"}'),
            "answers with 404 Not Found: see that MLFLOW_TRACKING_URI is the address of MLflow "
            "itself.",
        ),
        (
            (200, JSON, '{"status": "alive"}'),
            "answers with a page (application/json) instead of MLflow's data: see that "
            "MLFLOW_TRACKING_URI is the address of MLflow itself; if it is a page to sign in, no "
            f"credentials were found; set {LOOKED_FOR}.",
        ),
        (
            (200, HTML, "<html><head><title>Sign in\n to Acme</title></head></html>"),
            "answers with a page (text/html, titled 'Sign in to Acme') instead of MLflow's data: "
            "see that MLFLOW_TRACKING_URI is the address of MLflow itself; if it is a page to "
            f"sign in, no credentials were found; set {LOOKED_FOR}.",
        ),
    ],
)
def test_what_a_gateway_answers_is_said_with_what_to_do(answering, answer, said):
    with answering(answer) as address:
        assert refused(address) == said


def test_credentials_that_were_refused_are_named_and_never_shown(answering, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    asked = []
    with answering((401, HTML, ""), asked=asked) as address:
        said = refused(address)
        with pytest.raises(WineQualityError) as caught:
            check_server(address.replace("//", "//anna:secret@"), NAMED_BY)
    assert f"user 'anna' was sent; correct {LOOKED_FOR}." in said
    assert asked[0][1].startswith("Basic ")
    assert "secret" not in said + str(caught.value)


def test_a_token_that_was_refused_is_named(answering, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    with answering((403, HTML, "")) as address:
        said = refused(address)
    assert "the token of MLFLOW_TRACKING_TOKEN was sent; correct it, or set" in said
    assert "secret" not in said


# in the middle of a run


def fail(address: str) -> MlflowException:
    with pytest.raises(MlflowException) as caught:
        http_request_safe(
            get_default_host_creds(address), "/api/2.0/mlflow/runs/create", "POST", max_retries=0
        )
    return caught.value


def test_a_server_that_goes_away_is_named(free_port):
    address = f"http://127.0.0.1:{free_port()}"
    said = describe_server_trouble(address, fail(address), NAMED_BY)
    assert said.startswith(f"The MLflow server {address} does not answer (Connection refused): ")


@pytest.mark.parametrize(
    ("status", "said"),
    [(502, "502"), (401, "answers with 401 Unauthorized: no credentials were found; set")],
)
def test_a_gateway_that_fails_is_named(answering, status, said):
    with answering((status, HTML, "<html>long</html>")) as address:
        told = describe_server_trouble(address, fail(address), NAMED_BY)
    assert said in told
    assert "<html>" not in told


def test_what_the_server_itself_says_is_left_to_it():
    error = RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"})
    assert describe_server_trouble("http://host", error, NAMED_BY) is None
