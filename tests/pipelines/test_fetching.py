import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from wine_quality.errors import WineQualityError
from wine_quality.pipelines.download.fetching import fetch_file, sha256_of
from wine_quality.system import retrying

CONTENT = b"fixed acidity;quality\n" * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Answer(NamedTuple):
    """What the server says: a status, a body, and the length that it claims for it."""

    status: int = 200
    body: bytes = CONTENT
    length: int | None = len(CONTENT)


class Server:
    """A server on this machine that gives scripted answers, the last one again and again."""

    def __init__(self) -> None:
        self.answers = [Answer()]
        self.requests: list[str] = []
        self.silence = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                if self.path == "/silent":
                    outer.silence.wait(30)
                    return
                script = outer.answers
                answer = script.pop(0) if len(script) > 1 else script[0]
                self.send_response(answer.status)
                if answer.length is not None:
                    self.send_header("Content-Length", str(answer.length))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/wines.csv"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.silence.set()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The pauses between tries; none of them is made."""
    made: list[float] = []
    monkeypatch.setattr(retrying, "time", SimpleNamespace(sleep=made.append))
    return made


def fetch(server, path, *, sha256=SHA256, attempts=3, url=None, timeout=10.0):
    fetch_file(url or server.url, path, sha256, timeout, attempts)


def test_the_checksum_of_a_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("length", [len(CONTENT), None], ids=["length told", "length unknown"])
def test_a_file_with_the_right_content_is_fetched(server, pauses, tmp_path, length):
    server.answers = [Answer(length=length)]
    path = tmp_path / "new" / "folder" / "wines.csv"
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o644
    assert [file.name for file in path.parent.iterdir()] == ["wines.csv"]
    assert (len(server.requests), pauses) == (1, [])


def test_a_wrong_content_leaves_nothing_and_is_not_asked_for_again(server, pauses, tmp_path):
    server.answers = [Answer(body=b"other", length=5)]
    with pytest.raises(WineQualityError, match=r"not the expected content.*download\.sources"):
        fetch(server, tmp_path / "wines.csv")
    assert list(tmp_path.iterdir()) == []
    assert (len(server.requests), pauses) == (1, [])


def test_a_wrong_content_does_not_replace_the_file_that_is_there(server, pauses, tmp_path):
    path = tmp_path / "wines.csv"
    path.write_bytes(b"old")
    with pytest.raises(WineQualityError, match="not the expected content"):
        fetch(server, path, sha256="0" * 64)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_body_that_ends_early_is_fetched_again(server, pauses, tmp_path):
    server.answers = [Answer(body=CONTENT[:-1]), Answer()]
    path = tmp_path / "wines.csv"
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert (len(server.requests), pauses) == (2, [1])


def test_a_body_that_always_ends_early_is_an_error_and_leaves_nothing(server, pauses, tmp_path):
    server.answers = [Answer(body=CONTENT[:-1])]
    with pytest.raises(WineQualityError, match="ended after 219,999 of 220,000 bytes"):
        fetch(server, tmp_path / "wines.csv")
    assert list(tmp_path.iterdir()) == []
    assert (len(server.requests), pauses) == (3, [1, 2])


def test_an_address_that_is_not_there_is_not_asked_for_again(server, pauses, tmp_path):
    server.answers = [Answer(404, b"", 0)]
    with pytest.raises(WineQualityError, match=r"404.*put the file to .*wines\.csv yourself"):
        fetch(server, tmp_path / "wines.csv")
    assert list(tmp_path.iterdir()) == []
    assert (len(server.requests), pauses) == (1, [])


def test_a_server_in_trouble_is_asked_again_after_growing_pauses(server, pauses, tmp_path):
    server.answers = [Answer(500, b"", 0), Answer(503, b"", 0), Answer()]
    path = tmp_path / "wines.csv"
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert (len(server.requests), pauses) == (3, [1, 2])


def test_a_server_in_lasting_trouble_is_given_up(server, pauses, tmp_path):
    server.answers = [Answer(500, b"", 0)]
    with pytest.raises(WineQualityError, match="500"):
        fetch(server, tmp_path / "wines.csv", attempts=2)
    assert (len(server.requests), pauses) == (2, [1])


def test_a_server_that_does_not_answer_is_given_up(server, pauses, tmp_path):
    url = server.url.replace("wines.csv", "silent")
    with pytest.raises(WineQualityError, match="timed out"):
        fetch(server, tmp_path / "wines.csv", url=url, attempts=1, timeout=0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_port_without_a_server_is_an_error(server, pauses, tmp_path):
    server.close()
    with pytest.raises(WineQualityError, match=r"refused.*check the network"):
        fetch(server, tmp_path / "wines.csv", attempts=2)
    assert pauses == [1]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x", "wines.csv", ""])
def test_only_http_addresses_are_asked(url, tmp_path):
    with pytest.raises(WineQualityError, match="neither an http nor an https address"):
        fetch_file(url, tmp_path / "x", SHA256, 1.0, 1)


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", "http://127.0.0.1:port/", "http://127.0.0.1:9/rosé.csv"]
)
def test_an_address_that_makes_no_sense_is_an_error(url, pauses, tmp_path):
    with pytest.raises(WineQualityError, match=r"cannot be fetched.*check .*address"):
        fetch_file(url, tmp_path / "x", SHA256, 1.0, 3)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WineQualityError, match="file cannot be made: File exists"):
        fetch_file("http://127.0.0.1:9/x", tmp_path / "file" / "x", SHA256, 1.0, 1)
