"""The service as a process: killed, stopped, with several workers, without its database."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.serving.browser import until
from tests.serving.in_process import logged
from tests.serving.load import Load, check_log
from wine_quality.serving.challenger import is_canary
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.wines import WINE_EXAMPLE as WINE

KILLS = 3


@pytest.mark.slow
def test_killed_in_mid_load_nothing_acknowledged_is_lost_or_doubled(
    registered, settings, serve
) -> None:
    registered.add()
    server = serve(settings)
    with Load(server.url) as load:
        for _ in range(KILLS):
            load.wait_for(50)
            server.stop(signal.SIGKILL)
            server.start()
        load.wait_for(50)
    assert load.cut >= KILLS
    assert set(load.statuses) <= {200, 503}
    check_log(settings.log_url, load)


@pytest.mark.slow
def test_a_backup_under_load_holds_what_was_acknowledged(
    registered, settings, serve, tmp_path
) -> None:
    registered.add()
    server = serve(settings)
    command = [sys.executable, "-m", "wine_quality.serving", "backup", "--log-url"]
    with Load(server.url) as load:
        for copy in ("first.db", "second.db"):
            load.wait_for(50)
            before = set(load.acknowledged.values())
            target = str(tmp_path / "backups" / copy)
            done = subprocess.run([*command, settings.log_url, target], capture_output=True)
            assert done.returncode == 0, done.stderr
            with InferenceLog(f"sqlite:///{target}") as log:
                assert before <= set(log.read()["prediction_id"])
    assert set(load.statuses) == {200}
    check_log(settings.log_url, load)


@pytest.mark.slow
def test_stopped_gently_what_was_accepted_is_answered(registered, settings, serve) -> None:
    registered.add()
    server = serve(settings)
    with Load(server.url) as load:
        load.wait_for(100)
        status = server.stop(signal.SIGTERM)
        # who is connected learns that the service is gone, nobody gets a 500
        time.sleep(0.2)
    assert status in (0, -signal.SIGTERM)
    assert set(load.statuses) == {200}
    check_log(settings.log_url, load)
    lines = [json.loads(line) for line in server.lines.read_text().splitlines()]
    assert not [line for line in lines if line["level"] == "error"]


@pytest.mark.slow
def test_several_workers_share_log_and_figures(registered, settings, serve) -> None:
    registered.add()
    server = serve(settings.model_copy(update={"workers": 2}))
    with Load(server.url) as load:
        load.wait_for(200)
    n = sum(load.statuses.values())
    check_log(settings.log_url, load)
    # each of these may be answered by either worker, and soon all of them say the same
    agreeing, deadline = 0, time.monotonic() + 60
    while agreeing < 6:
        data = httpx.get(f"{server.url}/live/data", timeout=60).json()
        counters = data["counters"]
        told = (counters["requests"], counters["predictions"], data["predictions"]["n"])
        agreeing = agreeing + 1 if told == ({"200": n}, n, n) else 0
        assert time.monotonic() < deadline, (told, n)
        time.sleep(0.1)
    assert (
        f'wine_quality_predictions_total{{model_version="1"}} {n}.0'
        in httpx.get(f"{server.url}/metrics", timeout=60).text
    )


# The challenger


@pytest.fixture
def shadowing(registered, settings):
    """A service that shadows everything, on however slow a machine; with both versions."""
    registered.add()
    registered.add(alias="challenger")
    return settings.model_copy(update={"shadow_share": 1.0, "shadow_slow_ms": 60_000.0})


def shadows(url: str) -> tuple[list[str], list[str]]:
    """Ids of all predictions, and of those with shadow answers."""
    with InferenceLog(url) as log:
        return log.read()["prediction_id"].tolist(), log.read_shadowed()["prediction_id"].tolist()


@pytest.mark.slow
def test_stopped_gently_the_shadow_is_written_too(shadowing, serve) -> None:
    server = serve(shadowing)
    with Load(server.url) as load:
        load.wait_for(200)
    assert server.stop(signal.SIGTERM) in (0, -signal.SIGTERM)
    assert set(load.statuses) == {200}
    check_log(shadowing.log_url, load)
    predictions, shadowed = shadows(shadowing.log_url)
    assert shadowed == predictions


@pytest.mark.slow
def test_killed_the_service_loses_shadow_answers_that_were_not_written_alone(
    shadowing, serve
) -> None:
    server = serve(shadowing)
    with Load(server.url) as load:
        for _ in range(3):
            # some of them have had their second
            load.wait_for(50)
            time.sleep(1.5)
            load.wait_for(50)
            server.stop(signal.SIGKILL)
            server.start()
        load.wait_for(50)
    check_log(shadowing.log_url, load)
    server.stop(signal.SIGTERM)
    predictions, shadowed = shadows(shadowing.log_url)
    assert 100 < len(shadowed) == len(set(shadowed))
    assert set(shadowed) <= set(predictions)


@pytest.mark.slow
def test_several_workers_shadow_and_agree_on_canaries(shadowing, serve) -> None:
    share = {"workers": 2, "canary_share": 0.5, "shadow_rows": 100_000}
    server = serve(shadowing.model_copy(update=share))
    with httpx.Client(base_url=server.url, timeout=60) as client:

        def version(name: str) -> str:
            # a connection of its own each: any worker may take it
            headers = {"X-Client-Id": name, "Connection": "close"}
            answer = client.post("/predict", json=WINE, headers=headers)
            return answer.json()["model_version"]

        for _ in range(8):
            found = [version(f"client-{i}") for i in range(12)]
            assert found == ["2" if is_canary(f"client-{i}", 0.5) else "1" for i in range(12)]
    with Load(server.url) as load:
        load.wait_for(200)
    predictions = logged(shadowing)
    champions = set(predictions[predictions["model_version"] == "1"]["prediction_id"])
    deadline = time.monotonic() + 60
    text = ""
    while f'fate="written"}} {len(champions)}.0' not in text:
        assert time.monotonic() < deadline, text
        text = httpx.get(f"{server.url}/metrics", timeout=60).text
    assert set(shadows(shadowing.log_url)[1]) == champions


@pytest.mark.slow
def test_under_overload_the_shadow_is_dropped_and_no_request(shadowing, serve) -> None:
    server = serve(shadowing.model_copy(update={"shadow_slow_ms": 0.5}))
    with Load(server.url, pause=0) as load:
        load.wait_for(500)
        ready = httpx.get(f"{server.url}/health/ready", timeout=60).json()
        assert ready["warnings"] == ["Shadow answers were dropped: the service has too much to do."]
        counters = httpx.get(f"{server.url}/live/data", timeout=60).json()["counters"]
        assert counters["shadow"]["dropped"] > 400
    assert set(load.statuses) == {200}
    check_log(shadowing.log_url, load)


@contextmanager
def postgres_away(commands: tuple[str, str]) -> Iterator[None]:
    """Stop the database server, and start it again."""
    stop, start = commands
    assert os.system(stop) == 0
    try:
        yield
    finally:
        assert os.system(start) == 0


@pytest.mark.slow
def test_without_its_postgresql_it_says_so_and_recovers(
    registered, settings, serve: Callable[..., Any]
) -> None:
    url = os.environ.get("WINE_QUALITY_TEST_POSTGRES_OWN_URL")
    stop = os.environ.get("WINE_QUALITY_TEST_POSTGRES_STOP")
    start = os.environ.get("WINE_QUALITY_TEST_POSTGRES_START")
    if not (url and stop and start):
        pytest.skip(
            "set WINE_QUALITY_TEST_POSTGRES_OWN_URL, _STOP and _START to an empty database of a "
            "server that the test may stop, and the commands that do it"
        )
    registered.add()
    server = serve(settings.model_copy(update={"log_url": url}))
    with Load(server.url) as load:
        load.wait_for(200)
        with postgres_away((stop, start)):
            deadline = time.monotonic() + 120
            while load.statuses.get(503, 0) < 100:
                assert time.monotonic() < deadline, load.statuses
                time.sleep(0.05)
            answer = httpx.post(f"{server.url}/predict", json=WINE, timeout=60)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert httpx.get(f"{server.url}/health/ready", timeout=60).status_code == 503
            assert httpx.get(f"{server.url}/health/live", timeout=60).status_code == 200
        load.wait_for(200)
    assert set(load.statuses) == {200, 503}
    check_log(url, load)


# The pages


@pytest.mark.slow
def test_the_interface_can_be_read_and_tried_without_internet(
    registered, settings, serve, phone
) -> None:
    registered.add()
    server = serve(settings)
    page = phone.page
    page.goto(f"{server.url}/docs")
    operations = page.locator(".opblock-summary-path")
    until(page, "document.querySelectorAll('.opblock-summary-path').length > 8")
    assert {"/predict", "/predict/batch", "/invocations", "/ground-truth", "/model"} <= {
        text.replace("\u200b", "") for text in operations.all_inner_texts()
    }
    page.locator("#operations-default-predict_predict_post .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    until(page, "document.querySelector('.live-responses-table .response-col_status') !== null")
    assert "200" in page.locator(".live-responses-table .response-col_status").last.inner_text()
    with InferenceLog(settings.log_url) as log:
        assert len(log.read()) == 1
    assert phone.complaints == []
    assert all(url.startswith((server.url, "data:")) for url in phone.asked)


LEGENDS = """[
    [...document.querySelectorAll("h2 .key")].every((key) => key.getClientRects().length === 1),
    getComputedStyle(document.querySelector("h2 i.b")).borderTopStyle,
]"""
WAITING = """(() => {
    samples.length = 0;
    overTime($("rate"), [{ name: "rps", style: "a" }]);
    return $("rate").textContent;
})()"""
MANY_LABELS = """(() => {
    showError({ n: 1801, width: 50, mae: [0.5, 0.6], reference_mae: 0.5, reason: "all: well" });
    return $("error-n").textContent;
})()"""


@pytest.mark.slow
def test_the_live_page_updates_by_itself(registered, settings, serve, phone) -> None:
    registered.add()
    server = serve(settings)
    page = phone.page
    with Load(server.url, pause=0.1) as load:
        page.goto(f"{server.url}/live")
        until(page, "document.getElementById('state').textContent !== 'connecting'")
        until(page, "parseFloat(document.getElementById('rps').textContent) > 0")
        load.wait_for(100)
        until(page, "document.querySelectorAll('#drift .row').length === 15")
        # the same wine again and again
        until(page, "document.getElementById('state').textContent === 'data quality'")
        assert page.locator(".row.data_quality").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(LEGENDS) == [True, "dashed"]
        # after a first answer, and with many labels
        assert page.evaluate(WAITING) == "waiting"
        assert page.evaluate(MANY_LABELS) == "last 1,801 labels, mean of 50"
        version = registered.add()
        until(page, f"document.getElementById('model').textContent.includes(' version {version} ')")
        assert phone.complaints == []
        assert all(url.startswith((server.url, "data:")) for url in phone.asked)
        server.stop(signal.SIGKILL)
        until(page, "document.getElementById('state').textContent === 'no answer'")
        server.start()
        until(page, "document.getElementById('state').textContent !== 'no answer'")


CHALLENGER = """["challenger-version", "shadow-written", "pairs-difference", "pairs-error",
    "challenger-trouble"].map((id) => document.getElementById(id).textContent)"""


@pytest.mark.slow
def test_the_live_page_shows_the_challenger(shadowing, registered, serve, phone) -> None:
    server = serve(shadowing)
    page = phone.page
    page.goto(f"{server.url}/live")
    with Load(server.url, pause=0.1) as load:
        load.wait_for(50)
        until(page, "parseFloat(document.getElementById('shadow-written').textContent) > 0")
        until(page, "document.getElementById('pairs-difference').textContent !== '–'")
        version, _, difference, error, trouble = page.evaluate(CHALLENGER)
        assert version.startswith("version 2, since ")
        assert version.endswith("; shadow of 100 % of the requests, answers 0 % of the clients")
        assert (difference.lstrip("+−"), trouble) == ("0.000", "")
        assert "No labels of these wines yet." in error
        with httpx.Client(base_url=server.url, timeout=60) as client:
            labels = [{"prediction_id": i, "quality": 5} for i in shadows(shadowing.log_url)[1]]
            assert client.post("/ground-truth", json={"labels": labels}).status_code == 200
        until(page, "document.getElementById('pairs-error').textContent.includes('wines: ch')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        registered.registry._client.delete_registered_model_alias(
            registered.registry.name, "challenger"
        )
        until(page, "document.getElementById('challenger-version').textContent.startsWith('none')")
        until(
            page, "document.getElementById('challenger-trouble').textContent.includes('no chall')"
        )
    assert phone.complaints == []
