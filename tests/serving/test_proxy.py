"""Behind a reverse proxy that shows the service under a prefix; and MLflow's own client."""

import http.client
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from tests.serving.browser import Phone, until
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.wines import INPUTS
from wine_quality.wines import WINE_EXAMPLE as WINE

PREFIX = "/cellar/wines"


def proxy_to(address: str, *, strips: bool) -> type[BaseHTTPRequestHandler]:
    """A reverse proxy of a service, which answers nothing outside of the prefix."""
    port = urlsplit(address).port

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            if not self.path.startswith((f"{PREFIX}/", f"{PREFIX}?")) and self.path != PREFIX:
                self.send_error(404, "nothing of the service's is here")
                return
            path = self.path.removeprefix(PREFIX) or "/" if strips else self.path
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            if strips:
                headers["X-Forwarded-Prefix"] = PREFIX
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            upstream.request(self.command, path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("date", "server", "connection"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _pass_on  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    return Proxy


@pytest.fixture
def behind_proxy(
    registered: Any, settings: Any, serve: Any, serve_http: Any
) -> Iterator[Callable[[bool], str]]:
    """Starts a service behind a proxy, which strips the prefix or leaves it; gives the address."""
    registered.add()
    with ExitStack() as stack:

        def start(strips: bool) -> str:
            root_path = "" if strips else PREFIX
            server = serve(settings.model_copy(update={"root_path": root_path}))
            proxy: AbstractContextManager[str] = serve_http(proxy_to(server.url, strips=strips))
            return stack.enter_context(proxy) + PREFIX

        yield start


@pytest.mark.slow
@pytest.mark.parametrize("strips", [True, False])
def test_links_and_pages_are_found_behind_a_proxy(behind_proxy, strips: bool) -> None:
    url = behind_proxy(strips)
    with httpx.Client(timeout=60) as client:
        for index in (url, f"{url}/"):
            links = client.get(index).json()["links"]
            for name in ("model", "live", "docs", "metrics", "health"):
                found = client.get(httpx.URL(url).join(links[name]))
                assert found.status_code == 200, links[name]
        assert client.post(httpx.URL(url).join(links["predict"]), json=WINE).status_code == 200
        document = client.get(f"{url}/openapi.json").json()
        # as the specification has it: relative to where the document is
        server = httpx.URL(f"{url}/openapi.json").join(document["servers"][0]["url"])
        assert str(server).rstrip("/") == url


@pytest.mark.slow
@pytest.mark.parametrize("strips", [True, False])
def test_the_pages_work_behind_a_proxy(behind_proxy, settings, phone: Phone, strips: bool) -> None:
    url = behind_proxy(strips)
    page = phone.page
    page.goto(f"{url}/docs")
    until(page, "document.querySelectorAll('.opblock-summary-path').length > 8")
    page.locator("#operations-default-predict_predict_post .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    until(page, "document.querySelector('.live-responses-table .response-col_status') !== null")
    assert "200" in page.locator(".live-responses-table .response-col_status").last.inner_text()
    with InferenceLog(settings.log_url) as log:
        assert len(log.read()) == 1
    page.goto(f"{url}/live")
    until(page, "document.getElementById('model').textContent.includes(' version ')")
    targets = page.evaluate("[...document.querySelectorAll('footer a')].map((link) => link.href)")
    assert targets == [f"{url}/", f"{url}/docs", f"{url}/model", f"{url}/metrics"]
    assert phone.complaints == []
    assert all(asked.startswith((url, "data:")) for asked in phone.asked)


@pytest.mark.slow
def test_mlflows_client_finds_what_it_expects(registered, settings, serve) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient
    from mlflow.version import VERSION

    registered.add()
    server = serve(settings)
    client = ScoringServerClient("127.0.0.1", server.port)
    client.wait_server_ready(timeout=60)
    assert client.get_version() == VERSION
    wines = registered.wines.head(5)
    answered = client.invoke(wines[list(INPUTS)]).get_predictions()
    expected = registered.model.predict(wines[list(INPUTS)])
    assert np.allclose(answered.to_numpy().ravel()[:5], expected, atol=1e-5)
