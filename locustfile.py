"""Load for the prediction service: people who look, people who send wines, people who err.

    locust --headless --users 20 --run-time 1m --host http://127.0.0.1:8000

`WINE_QUALITY_API_KEY` holds a key with scope write where the service wants one. A request that
ought to be refused counts as a success only if it is refused with 422.
"""

import os
import random
from collections import deque
from typing import Any

from locust import FastHttpUser, between, task

from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import INPUTS, MEASUREMENTS, QUALITY

BATCH = 50
LABELS = 20

_drawn = draw_wines(2_000, 1, duplicates=False, missing=False)
WINES: list[dict[str, Any]] = _drawn[list(INPUTS)].astype(object).to_dict("records")
QUALITIES: list[int] = _drawn[QUALITY].astype(int).tolist()
KEY = os.environ.get("WINE_QUALITY_API_KEY", "")


class Customer(FastHttpUser):
    """Somebody who uses the service."""

    wait_time = between(0.05, 0.3)
    default_headers = {"X-API-Key": KEY} if KEY else {}

    def on_start(self) -> None:
        """Remember the wines whose ground truth is still to come."""
        self.unlabelled: deque[tuple[str, int]] = deque(maxlen=1_000)

    @task(1)
    def index(self) -> None:
        """Look what this is."""
        self.client.get("/")

    @task(10)
    def predict(self) -> None:
        """Send a wine from the data's ranges."""
        i = random.randrange(len(WINES))  # noqa: S311
        with self.client.post("/predict", json=WINES[i], catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
            elif not 0 <= answer.json()["prediction"] <= 10:
                answer.failure("no quality from 0 to 10")
            else:
                self.unlabelled.append((answer.json()["prediction_id"], QUALITIES[i]))

    @task(2)
    def predict_invalid(self) -> None:
        """Send what cannot be a wine; it has to be refused."""
        wine = dict(random.choice(WINES))  # noqa: S311
        measurement = random.choice(MEASUREMENTS)  # noqa: S311
        mistakes = (
            {measurement.name: measurement.possible[1] * 10},
            {measurement.name: "a lot"},
            {"type": "rosé"},
            {"vintage": 1997},
        )
        wine |= random.choice(mistakes)  # noqa: S311
        name = "/predict (invalid)"
        with self.client.post("/predict", json=wine, name=name, catch_response=True) as answer:
            if answer.status_code == 422:
                answer.success()
            else:
                answer.failure(f"status {answer.status_code} where 422 was due")

    @task(2)
    def predict_batch(self) -> None:
        """Send several wines at once."""
        chosen = random.sample(range(len(WINES)), BATCH)
        body = {"wines": [WINES[i] for i in chosen], "source": "load-test"}
        with self.client.post("/predict/batch", json=body, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
                return
            for i, prediction in zip(chosen, answer.json()["predictions"], strict=True):
                self.unlabelled.append((prediction["prediction_id"], QUALITIES[i]))

    @task(2)
    def ground_truth(self) -> None:
        """Hand in what tasters said of wines sent before."""
        n = min(LABELS, len(self.unlabelled))
        if not n:
            return
        labels = [self.unlabelled.popleft() for _ in range(n)]
        body = {"labels": [{"prediction_id": name, QUALITY: quality} for name, quality in labels]}
        self.client.post("/ground-truth", json=body)
