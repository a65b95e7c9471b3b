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
from tests.serving.load import Load, check_log
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.wines import WINE_EXAMPLE as WINE

KILLS = 6


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
