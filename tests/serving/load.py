"""A load of the service that remembers what was acknowledged."""

import threading
import time
from uuid import uuid4

import httpx

from wine_quality.serving.inference_log import InferenceLog
from wine_quality.wines import WINE_EXAMPLE as WINE

CUSTOMERS = 6


class Load:
    """Customers who send wines and remember what was acknowledged.

    Args:
        url: Of the service.
        pause: Seconds between an answer and the next request of a customer; with few, service and
            customers keep all cores busy, and a service that starts beside them has none.
    """

    def __init__(self, url: str, pause: float = 0.05) -> None:
        self.url = url
        self._pause = pause
        self.acknowledged: dict[str, str] = {}
        self.statuses: dict[int, int] = {}
        self.cut = 0
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(CUSTOMERS)]

    def _send(self) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as client:
            key = str(uuid4())
            while not self._done.is_set():
                try:
                    answer = client.post("/predict", json=WINE, headers={"Idempotency-Key": key})
                except httpx.TransportError:
                    # the same request again, under the same key, until it is answered
                    self.cut += 1
                    # a service takes seconds to start; asking more often only keeps it from that
                    time.sleep(0.2)
                    continue
                self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
                if answer.status_code == 200:
                    self.acknowledged[key] = answer.json()["prediction_id"]
                    key = str(uuid4())
                    time.sleep(self._pause)
                else:
                    time.sleep(0.02)

    def wait_for(self, more: int, seconds: float = 60) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.acknowledged) + more
        deadline = time.monotonic() + seconds
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, self.statuses
            time.sleep(0.01)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


def check_log(url: str, load: Load) -> None:
    """Every acknowledged prediction is in the log, once, and no request was logged twice."""
    with InferenceLog(url) as log:
        ids = log.read()["prediction_id"].tolist()
    assert len(ids) == len(set(ids))
    acknowledged = set(load.acknowledged.values())
    assert len(acknowledged) == len(load.acknowledged)
    assert acknowledged <= set(ids)
    # what is beyond was under way when the customers went home
    assert len(ids) - len(acknowledged) <= CUSTOMERS
