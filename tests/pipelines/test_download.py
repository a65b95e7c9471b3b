import hashlib
import re
from functools import partial
from http.server import SimpleHTTPRequestHandler

import pytest
from pydantic import ValidationError

from wine_quality.errors import WineQualityError
from wine_quality.pipelines.download import create_pipeline, nodes
from wine_quality.pipelines.download.parameters import DownloadParameters

PAGE = "https://example.org/wines"
CONTENT = {"red.csv": b"red wines\n", "white.csv": b"white wines\n"}


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path, monkeypatch, serve_http):
    """Address of a server on this machine that has the files."""
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "server"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    with serve_http(partial(_Handler, directory=str(folder))) as address:
        yield address


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def parameters(folder, urls):
    sources = {
        name: {"url": url, "page": PAGE, "sha256": sha256(CONTENT[name])}
        for name, url in urls.items()
    }
    return DownloadParameters.model_validate(
        {"folder": str(folder), "timeout": 10, "attempts": 1, "sources": sources}
    )


def test_the_pipeline_brings_the_files(run_pipeline, address, tmp_path):
    folder = tmp_path / "raw" / "uci"
    asked = parameters(folder, {name: f"{address}/{name}" for name in CONTENT})
    made = run_pipeline(create_pipeline(), {"params:download": asked})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert made["fetched_files"] == {
        name: {"sha256": sha256(content), "bytes": len(content), "fetched": True}
        for name, content in CONTENT.items()
    }


def test_a_file_that_is_there_is_kept_without_a_request(tmp_path):
    (tmp_path / "red.csv").write_bytes(CONTENT["red.csv"])
    # nobody listens there
    found = nodes.fetch_raw_files(parameters(tmp_path, {"red.csv": "http://127.0.0.1:9/red.csv"}))
    assert found["red.csv"]["fetched"] is False
    assert (tmp_path / "red.csv").read_bytes() == CONTENT["red.csv"]


def test_a_file_with_another_content_is_replaced(address, tmp_path):
    (tmp_path / "red.csv").write_bytes(b"half of it")
    found = nodes.fetch_raw_files(parameters(tmp_path, {"red.csv": f"{address}/red.csv"}))
    assert found["red.csv"]["fetched"] is True
    assert (tmp_path / "red.csv").read_bytes() == CONTENT["red.csv"]


def test_a_file_that_takes_an_account_may_be_put_there_by_hand(tmp_path):
    (tmp_path / "red.csv").write_bytes(CONTENT["red.csv"])
    assert not nodes.fetch_raw_files(parameters(tmp_path, {"red.csv": None}))["red.csv"]["fetched"]


def test_a_file_that_takes_an_account_is_said_to(tmp_path):
    with pytest.raises(
        WineQualityError,
        match=f"red.csv cannot be fetched without an account: download it from {PAGE} and put it "
        rf"into {re.escape(str(tmp_path))} \(sha256 {sha256(CONTENT['red.csv'])}\)",
    ):
        nodes.fetch_raw_files(parameters(tmp_path, {"red.csv": None}))


def test_a_file_that_is_nowhere_is_an_error(address, tmp_path):
    with pytest.raises(WineQualityError, match="404"):
        nodes.fetch_raw_files(parameters(tmp_path / "raw", {"red.csv": f"{address}/rose.csv"}))
    assert list((tmp_path / "raw").iterdir()) == []


def test_an_environment_without_sources_is_an_error(tmp_path):
    with pytest.raises(WineQualityError, match="no files to fetch: add --env uci"):
        nodes.fetch_raw_files(parameters(tmp_path, {}))


def test_a_store_is_no_disk(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WineQualityError, match="s3://wines/raw is none: add --params download"):
        nodes.fetch_raw_files(parameters("s3://wines/raw", {"red.csv": "http://127.0.0.1:9/r"}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"timeout": 0}, "timeout"),
        ({"attempts": 0}, "attempts"),
        ({"sources": {"a": {"page": PAGE, "sha256": "abc"}}}, "sha256"),
        ({"sources": {"a": {"page": PAGE, "sha256": "0" * 64, "link": "x"}}}, "link"),
        ({"retries": 1}, "retries"),
    ],
)
def test_wrong_parameters_are_named(tmp_path, wrong, named):
    plain = {"folder": str(tmp_path), "timeout": 1, "attempts": 1, "sources": {}}
    with pytest.raises(ValidationError, match=named):
        DownloadParameters.model_validate(plain | wrong)
