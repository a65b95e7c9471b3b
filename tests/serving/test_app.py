"""The endpoints, one by one, in this process."""

import asyncio
import hashlib
import json
import re
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
import pandas as pd
import pytest

from tests.serving.in_process import WINE, ask, keyed, logged, until, wines_of
from wine_quality.database.errors import DatabaseUnavailableError
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.problems import ProblemError
from wine_quality.serving.wine_requests import read_table, read_wine
from wine_quality.wines import INPUTS, MEASUREMENTS

# Predictions


def test_a_prediction_is_the_models_and_stands_in_the_log(registered, settings) -> None:
    version = registered.add()
    wines = registered.wines.head(40)
    expected = registered.model.predict(wines[list(INPUTS)])
    answers = []

    async def work(client: httpx.AsyncClient) -> None:
        for wine in wines_of(wines):
            moment = "2026-01-31T13:00:00+01:00"
            answer = await client.post("/predict", json={**wine, "event_time": moment})
            assert answer.status_code == 200, answer.text
            answers.append(answer.json())

    ask(settings, work)
    assert np.allclose([a["prediction"] for a in answers], expected, atol=1e-5)
    assert {a["model_version"] for a in answers} == {version}
    rows = logged(settings).set_index("prediction_id").loc[[a["prediction_id"] for a in answers]]
    pd.testing.assert_frame_equal(
        rows[list(INPUTS)].reset_index(drop=True),
        wines[list(INPUTS)].reset_index(drop=True), check_dtype=False,
    )  # fmt: skip
    assert set(rows["event_time"]) == {pd.Timestamp("2026-01-31T12:00Z")}
    assert set(rows["source"]) == {"api"}
    assert UUID(answers[0]["prediction_id"]).version == 7


def test_a_batch_is_answered_in_its_order(registered, settings) -> None:
    registered.add()
    wines = registered.wines.head(120)
    expected = registered.model.predict(wines[list(INPUTS)])

    async def work(client: httpx.AsyncClient) -> None:
        body = {"wines": wines_of(wines), "source": "tests"}
        answer = await client.post("/predict/batch", json=body)
        assert answer.status_code == 200, answer.text
        predictions = answer.json()["predictions"]
        assert np.allclose([p["prediction"] for p in predictions], expected, atol=1e-5)
        rows = logged(settings)
        assert set(rows["prediction_id"]) == {p["prediction_id"] for p in predictions}
        assert set(rows["source"]) == {"tests"}

    ask(settings, work)


def test_the_older_red_wine_is_a_type(registered, settings) -> None:
    registered.add()
    plain = {k: v for k, v in WINE.items() if k != "type"}

    async def work(client: httpx.AsyncClient) -> None:
        for number in (0, 1):
            answer = await client.post("/predict", json={**plain, "red_wine": number})
            assert answer.status_code == 200
        both = await client.post("/predict", json={**WINE, "red_wine": 1})
        neither = await client.post("/predict", json=plain)
        assert both.status_code == neither.status_code == 422

    ask(settings, work)
    assert logged(settings).sort_values("prediction_id")["type"].tolist() == ["white", "red"]


@pytest.mark.parametrize("m", MEASUREMENTS, ids=lambda m: m.name)
def test_bounds(m: Any) -> None:
    for value in m.possible:
        wines = read_wine(json.dumps({**WINE, m.name: float(value)}).encode())
        assert wines.measurements[0, MEASUREMENTS.index(m)] == value
    for value in (m.possible[0] - 1, m.possible[1] + 1, float("nan"), float("inf"), "7", True, []):
        with pytest.raises(ProblemError) as refused:
            read_wine(json.dumps({**WINE, m.name: value}).encode())
        assert [e.field for e in refused.value.errors] == [m.name]


def test_what_is_impossible_is_refused_by_name_and_not_logged(registered, settings) -> None:
    registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        one = await client.post("/predict", json={**WINE, "alcohol": 101, "pH": "x"})
        assert one.status_code == 422
        assert {e["field"] for e in one.json()["errors"]} == {"alcohol", "pH"}
        many = await client.post("/predict/batch", json={"wines": [WINE, {**WINE, "density": 3}]})
        assert many.status_code == 422
        assert [e["field"] for e in many.json()["errors"]] == ["wines.1.density"]
        assert many.json()["detail"] == "1 value cannot be used."
        nothing = await client.post("/predict", json={"type": "rosé"})
        assert nothing.json()["detail"] == "12 values cannot be used."
        assert {e["field"] for e in nothing.json()["errors"]} == set(INPUTS)
        batch = await client.post("/predict/batch", json={"wines": [{"type": "rosé"}] * 2})
        assert batch.json()["detail"] == "24 values cannot be used; the first 20 are named."
        assert len(batch.json()["errors"]) == 20

    ask(settings, work)
    assert logged(settings).empty


def test_what_is_implausible_is_answered_with_a_warning(registered, settings) -> None:
    registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        strange = {**WINE, "alcohol": 29.4, "free_sulfur_dioxide": 100, "pH": None}
        answer = (await client.post("/predict", json=strange)).json()
        assert answer["warnings"] == [
            "alcohol: 29.4 % vol. is not from 6 to 17",
            "free_sulfur_dioxide is more than total_sulfur_dioxide",
        ]
        assert (await client.post("/predict", json=WINE)).json()["warnings"] == []
        metrics = (await client.get("/metrics")).text
        assert 'wine_quality_implausible_values_total{column="alcohol"} 1.0' in metrics

    ask(settings, work)
    assert len(logged(settings)) == 2


def test_a_repeated_request_is_answered_as_before_and_logged_once(registered, settings) -> None:
    registered.add()
    key = {"Idempotency-Key": "mine"}

    async def work(client: httpx.AsyncClient) -> None:
        first, second = [await client.post("/predict", json=WINE, headers=key) for _ in range(2)]
        assert first.json() == second.json()
        assert "Idempotent-Replayed" not in first.headers
        assert second.headers["Idempotent-Replayed"] == "true"
        other = await client.post("/predict", json={**WINE, "pH": 3}, headers=key)
        assert other.status_code == 409
        unusable = await client.post("/predict", json=WINE, headers={"Idempotency-Key": "x" * 256})
        assert unusable.status_code == 422

    ask(settings, work)
    assert len(logged(settings)) == 1


# MLflow's protocol


def test_the_four_forms_of_mlflow_get_the_same_answer(registered, settings) -> None:
    registered.add()
    wines = registered.wines.head(5)
    expected = registered.model.predict(wines[list(INPUTS)])
    records = wines_of(wines)
    columns = {name: [r[name] for r in records] for name in INPUTS}
    split = {"columns": list(INPUTS), "data": [[r[n] for n in INPUTS] for r in records]}
    forms: list[dict[str, Any]] = [
        {"dataframe_split": split},
        {"dataframe_split": {**split, "index": [0, 1, 2, 3, 4]}},
        {"dataframe_records": records},
        {"inputs": columns},
        {"inputs": records},
        {"instances": records},
        {"instances": columns},
        {"dataframe_records": [{**r, "vintage": 1997} for r in records], "params": None},
    ]

    async def work(client: httpx.AsyncClient) -> None:
        for form in forms:
            answer = await client.post("/invocations", json=form)
            assert answer.status_code == 200, answer.text
            assert np.allclose(answer.json()["predictions"], expected, atol=1e-5)
        one = await client.post("/invocations", json={"inputs": records[0]})
        assert np.allclose(one.json()["predictions"], expected[:1], atol=1e-5)

    ask(settings, work)
    assert len(logged(settings)) == 5 * len(forms) + 1


def test_a_csv_is_answered_and_logged(registered, settings) -> None:
    registered.add()
    wines = registered.wines.head(5)
    expected = registered.model.predict(wines[list(INPUTS)])

    async def work(client: httpx.AsyncClient) -> None:
        for kind in ("text/csv", "Text/CSV; charset=utf-8", 'text/csv; charset="UTF-8"'):
            answer = await client.post(
                "/invocations", content=wines.to_csv(), headers={"Content-Type": kind}
            )
            assert answer.status_code == 200, answer.text
            assert np.allclose(answer.json()["predictions"], expected, atol=1e-5)
        for path, kind in (("/invocations", "text/csv; charset=latin-1"), ("/predict", "text/csv")):
            answer = await client.post(path, content=wines.to_csv(), headers={"Content-Type": kind})
            assert answer.status_code == 415

    ask(settings, work)
    assert len(logged(settings)) == 15


def test_mlflow_writes_what_is_missing_as_nan(registered, settings) -> None:
    registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        body = json.dumps(
            {
                "dataframe_records": [{**WINE, "pH": float("nan")}],
                "params": {"source": "mlflow", "event_time": "2026-02-01T00:00:00Z"},
            }
        )
        headers = {"Content-Type": "application/json"}
        assert (await client.post("/invocations", content=body, headers=headers)).status_code == 200

    ask(settings, work)
    (row,) = logged(settings).to_dict("records")
    assert np.isnan(row["pH"])
    assert (row["source"], row["event_time"]) == ("mlflow", pd.Timestamp("2026-02-01T00:00Z"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "Give an object"),
        ({}, "exactly one of"),
        ({"inputs": {}, "instances": []}, "exactly one of"),
        ({"inputs": [WINE], "wines": 1}, "exactly one of"),
        ({"inputs": []}, "holds no rows"),
        ({"dataframe_records": {"pH": [3]}}, "should be rows"),
        ({"instances": [[1, 2, 3]]}, "should be rows"),
        ({"inputs": {"type": ["red"]}}, "lacks the column(s) fixed_acidity"),
        ({"inputs": [WINE, {"type": "red"}]}, "lacks fixed_acidity"),
        ({"inputs": {**{k: [v] for k, v in WINE.items()}, "pH": [3, 3]}}, "equally long"),
        ({"dataframe_split": {"columns": ["pH"], "data": [[1, 2]]}}, "should hold columns"),
        ({"dataframe_split": 3}, "should hold columns"),
        ({"inputs": [{**WINE, "type": "rosé"}]}, "1 value cannot be used"),
        ({"inputs": [{**WINE, "pH": 15}]}, "1 value cannot be used"),
        ({"inputs": [{**WINE, "pH": 10**400}]}, "1 value cannot be used"),
        ({"inputs": [{**WINE, "pH": True}]}, "1 value cannot be used"),
        ({"inputs": [WINE], "params": {"event_time": "yesterday"}}, "params may hold"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_wines_is_refused(body: Any, said: str) -> None:

    from wine_quality.serving.problems import ProblemError

    with pytest.raises(ProblemError, match=said.replace("(", r"\(").replace(")", r"\)")) as refused:
        read_table(json.dumps(body).encode(), "application/json", 10)
    assert refused.value.status == 422


# Ground truth


def test_ground_truth_is_taken_once_and_refused_by_name(registered, settings) -> None:
    registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        wines = {"wines": [WINE, {**WINE, "pH": 3}]}
        answer = await client.post("/predict/batch", json=wines)
        ids = [p["prediction_id"] for p in answer.json()["predictions"]]
        labels = [
            {"prediction_id": ids[0], "quality": 6, "labelled_at": "2026-03-01T00:00:00Z"},
            {"prediction_id": ids[1], "quality": 7},
        ]
        for new in (2, 0):
            answer = await client.post("/ground-truth", json={"labels": labels})
            assert (answer.status_code, answer.json()) == (200, {"received": 2, "new": new})
        changed = {"labels": [{**labels[1], "quality": 5}]}
        assert (await client.post("/ground-truth", json=changed)).json()["new"] == 1
        unknown = [str(uuid4()) for _ in range(7)]
        strangers = [{"prediction_id": name, "quality": 6} for name in unknown]
        answer = await client.post("/ground-truth", json={"labels": [*labels, *strangers]})
        assert answer.status_code == 404
        assert sorted(answer.json()["unknown"]) == sorted(unknown)
        wrong = {"labels": [{**labels[0], "quality": 11}]}
        assert (await client.post("/ground-truth", json=wrong)).status_code == 422

    ask(settings, work)
    assert sorted(logged(settings)["quality"]) == [5, 6]


def test_two_qualities_of_a_wine_at_one_moment_are_refused(registered, settings) -> None:
    registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        name = (await client.post("/predict", json=WINE)).json()["prediction_id"]
        noon, same = "2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00"
        one = {"prediction_id": name, "quality": 6, "labelled_at": noon}
        for other in (
            {**one, "quality": 7},
            {**one, "quality": 7, "labelled_at": same},
            {**one, "quality": 7, "prediction_id": name.upper()},
        ):
            answer = await client.post("/ground-truth", json={"labels": [one, other]})
            assert answer.status_code == 422, other
            (error,) = answer.json()["errors"]
            assert error["field"] == "labels.1"
            assert "labels.0 says 6" in error["message"]
        now = [{"prediction_id": name, "quality": quality} for quality in (6, 7)]
        assert (await client.post("/ground-truth", json={"labels": now})).status_code == 422
        # said twice alike, or of two moments, it is no contradiction
        labels = [
            one,
            {**one, "labelled_at": same},
            {**one, "quality": 7, "labelled_at": "2026-03-02T12:00:00Z"},
        ]
        answer = await client.post("/ground-truth", json={"labels": labels})
        assert (answer.status_code, answer.json()) == (200, {"received": 3, "new": 2})
        text = json.dumps({"labels": [one]}).replace('"labelled_at"', '"quality": 7, "labelled_at"')
        answer = await client.post(
            "/ground-truth", content=text, headers={"Content-Type": "application/json"}
        )
        assert [e["field"] for e in answer.json()["errors"]] == ["quality"]

    ask(settings, work)
    assert logged(settings)["quality"].tolist() == [7]


# What it says of itself


def test_it_says_what_it_is_and_which_model_answers(registered, settings) -> None:
    version = registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        links = (await client.get("/")).json()["links"]
        for link in links.values():
            if link not in {"/predict", "/predict/batch", "/invocations", "/ground-truth"}:
                assert (await client.get(link)).status_code == 200, link
        model = (await client.get("/model")).json()
        assert (model["name"], model["version"], model["alias"]) == (
            registered.registry.name, version, "champion",
        )  # fmt: skip
        assert model["metrics"] == {"mae": 0.5}
        assert (model["runtime"], model["verified"]) == ("onnx", True)
        since = datetime.fromisoformat(model["since"])
        assert datetime.fromisoformat(model["registered_at"]) <= since <= datetime.now(UTC)
        assert (await client.get("/health/live")).json() == {"status": "alive"}
        missing = await client.get("/nowhere")
        assert (missing.status_code, missing.json()["title"]) == (404, "Not found")
        wrong = await client.get("/predict")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")

    ask(settings, work)


def test_probes_say_whether_it_can_predict(registered, settings) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        for path in ("/ping", "/health", "/health/ready"):
            assert (await client.get(path)).status_code == 503, path
        await asyncio.to_thread(registered.add)

        async def ready() -> bool:
            return (await client.get("/ping")).status_code == 200

        await until(ready)
        for path in ("/ping", "/health", "/health/ready"):
            assert (await client.get(path)).json() == {"status": "ready", "warnings": []}
        version = await client.get("/version")
        assert version.text == metadata.version("mlflow")
        assert version.headers["content-type"].startswith("text/plain")

    # probes have no key
    guarded, _ = keyed(settings, "read")
    ask(guarded, work)


def test_metrics_count_what_happened(registered, settings) -> None:
    version = registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        for _ in range(3):
            await client.post("/predict", json=WINE)
        await client.post("/predict", json={})
        await client.get("/some/path/of/a/client")
        metrics = (await client.get("/metrics")).text
        for line in (
            'wine_quality_requests_total{route="/predict",status="200"} 3.0',
            'wine_quality_requests_total{route="/predict",status="422"} 1.0',
            'wine_quality_requests_total{route="other",status="404"} 1.0',
            f'wine_quality_predictions_total{{model_version="{version}"}} 3.0',
            "wine_quality_commit_seconds_count 3.0",
            'wine_quality_model_events_total{alias="champion",kind="loaded"} 1.0',
        ):
            assert line in metrics, metrics

    ask(settings, work)


def test_without_a_champion_it_waits_for_one(registered, settings) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        for path in ("/health/ready", "/model"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert "The registry has no champion of wine-" in answer.json()["detail"]
        answer = await client.post("/predict", json=WINE)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert (await client.get("/health/live")).status_code == 200
        await asyncio.to_thread(registered.add)

        async def ready() -> bool:
            return (await client.get("/health/ready")).status_code == 200

        await until(ready)

    ask(settings, work)


# Models


OF_OLD = {"onnx": None, "onnx_sha256": None, "model_sha256": None}


@pytest.mark.parametrize(
    ("tags", "verified"), [(OF_OLD, False), ({"onnx": "no converter for this model"}, True)]
)
def test_without_onnx_scikit_learn_answers_the_same(registered, settings, tags, verified) -> None:
    registered.add(tags=tags)
    wines = registered.wines.head(5)
    expected = registered.model.predict(wines[list(INPUTS)])

    async def work(client: httpx.AsyncClient) -> None:
        model = (await client.get("/model")).json()
        assert (model["runtime"], model["verified"]) == ("scikit-learn", verified)
        assert model["runtime_reason"].startswith("no ONNX: ")
        body = {"wines": wines_of(wines)}
        answers = (await client.post("/predict/batch", json=body)).json()["predictions"]
        assert np.allclose([a["prediction"] for a in answers], expected)

    ask(settings, work)


def test_a_new_champion_is_picked_up_without_failing_a_request(registered, settings) -> None:
    first = registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        seen: list[str] = []
        done = asyncio.Event()

        async def customer() -> None:
            while not done.is_set():
                answer = await client.post("/predict", json=WINE)
                assert answer.status_code == 200, answer.text
                seen.append(answer.json()["model_version"])

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(customer())
            second = await asyncio.to_thread(registered.add)

            async def changed() -> bool:
                return seen[-1] == second

            await until(changed)
            done.set()
        assert set(seen) == {first, second}
        events = (await client.get("/model")).json()["events"]
        assert [(e["kind"], e["version"]) for e in events] == [
            ("loaded", first), ("loaded", second),
        ]  # fmt: skip

    ask(settings, work)


def test_a_champion_of_the_same_number_in_a_model_made_anew_is_picked_up(
    registered, settings
) -> None:
    first = registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        before = (await client.get("/model")).json()

        def start_over() -> str:
            from mlflow import MlflowClient

            MlflowClient(registered.tracking_uri).delete_registered_model(registered.registry.name)
            return registered.add()

        assert await asyncio.to_thread(start_over) == first

        async def changed() -> bool:
            model = (await client.get("/model")).json()
            return model["registered_at"] != before["registered_at"]

        await until(changed)
        assert (await client.get("/model")).json()["version"] == first

    ask(settings, work)


def _doubled(content: bytes) -> bytes:
    """The trees of another model: they answer, but otherwise than when they were registered."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(content)
    (weights,) = (
        attribute.t
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.name == "target_weights_as_tensor"
    )
    weights.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weights), weights.name))
    changed: bytes = model.SerializeToString()
    return changed


@pytest.mark.parametrize("fault", ["digest", "no onnx file", "other answers", "model digest"])
def test_a_broken_version_is_refused_and_the_old_one_kept(
    registered, settings, fault, caplog
) -> None:
    first = registered.add()
    changed = _doubled(registered.onnx)
    digest = hashlib.sha256(changed).hexdigest()
    arguments: dict[str, Any] = {
        "digest": {"content": registered.onnx + b"\0"},
        "no onnx file": {"content": b"garbage", "tags": {
            "onnx_sha256": hashlib.sha256(b"garbage").hexdigest()
        }},
        "other answers": {"content": changed, "tags": {"onnx_sha256": digest}},
        "model digest": {"onnx": "no converter", "tags": {"model_sha256": "0" * 64}},
    }[fault]  # fmt: skip

    async def work(client: httpx.AsyncClient) -> None:
        second = await asyncio.to_thread(lambda: registered.add(**arguments))

        async def refused() -> bool:
            return (await client.get("/model")).json()["refused"] is not None

        await until(refused)
        model = (await client.get("/model")).json()
        assert (model["version"], model["refused"]["version"]) == (first, second)
        assert (await client.post("/predict", json=WINE)).json()["model_version"] == first
        assert (await client.get("/health/ready")).status_code == 200
        gauge = 'wine_quality_model_refused{alias="champion"}'
        assert f"{gauge} 1.0" in (await client.get("/metrics")).text
        registered.registry.set_alias("champion", first)

        async def corrected() -> bool:
            return (await client.get("/model")).json()["refused"] is None

        await until(corrected)
        assert f"{gauge} 0.0" in (await client.get("/metrics")).text

    ask(settings, work)
    assert "ALERT: a model version was refused" in caplog.text


# The log's trouble


def test_a_log_that_is_away_is_said_and_found_again(registered, settings, monkeypatch) -> None:
    registered.add()

    def refuse(*_: object) -> None:
        raise DatabaseUnavailableError("no connection with the password secret")

    async def work(client: httpx.AsyncClient) -> None:
        known = (await client.post("/predict", json=WINE)).json()["prediction_id"]
        label = {"labels": [{"prediction_id": known, "quality": 6}]}
        with monkeypatch.context() as away:
            for name in ("append_many", "check", "newest_labels"):
                away.setattr(InferenceLog, name, refuse)
            for path, body in (("/predict", WINE), ("/ground-truth", label)):
                answer = await client.post(path, json=body)
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
                assert "secret" not in answer.text
            assert (await client.get("/health/ready")).status_code == 503

        async def back() -> bool:
            return (await client.get("/health/ready")).status_code == 200

        await until(back)
        assert (await client.post("/predict", json=WINE)).status_code == 200

    ask(settings, work)
    assert len(logged(settings)) == 2


def test_a_log_that_cannot_be_used_is_no_outage(registered, settings, tmp_path: Path) -> None:
    registered.add()
    place = tmp_path / "log.db"

    async def work(client: httpx.AsyncClient) -> None:
        known = (await client.post("/predict", json=WINE)).json()["prediction_id"]
        aside = place.rename(tmp_path / "aside.db")
        place.mkdir()
        label = {"labels": [{"prediction_id": known, "quality": 6}]}
        for path, body in (("/predict", WINE), ("/ground-truth", label)):
            answer = await client.post(path, json=body)
            # nobody is asked to try again what a person has to put right
            assert answer.status_code == 500
            assert "Retry-After" not in answer.headers
            assert "trying again does not help" in answer.text
            assert str(tmp_path) not in answer.text
        assert (await client.get("/health/ready")).status_code == 503
        place.rmdir()
        aside.rename(place)

        async def back() -> bool:
            return (await client.get("/health/ready")).status_code == 200

        await until(back)
        assert (await client.post("/predict", json=WINE)).status_code == 200

    ask(settings, work)
    assert len(logged(settings)) == 2


# The guard


def test_labels_that_hang_take_nothing_else_down(registered, settings, monkeypatch) -> None:
    registered.add()
    goes_on = threading.Event()
    hanging = []

    def hang(*_: object) -> int:
        hanging.append(threading.current_thread().name)
        goes_on.wait(60)
        return 1

    monkeypatch.setattr(InferenceLog, "append_ground_truth", hang)
    label = {"prediction_id": str(uuid4()), "quality": 6, "labelled_at": "2026-01-31T12:00:00Z"}

    async def work(client: httpx.AsyncClient) -> None:
        asked = [
            asyncio.ensure_future(client.post("/ground-truth", json={"labels": [label]}))
            for _ in range(40)
        ]
        try:
            await until(lambda: asyncio.sleep(0, len(hanging) > 1))
            async with asyncio.timeout(10):
                body = {"wines": wines_of(registered.wines.head(60))}
                assert (await client.post("/predict/batch", json=body)).status_code == 200
                assert (await client.get("/metrics")).status_code == 200
            assert len(hanging) == 2
        finally:
            goes_on.set()
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}

    ask(settings, work)
    assert all(name.startswith("labels") for name in hanging)


def test_keys_and_scopes(registered, settings) -> None:
    registered.add()
    guarded, key = keyed(settings, "write")

    async def work(client: httpx.AsyncClient) -> None:
        for path in ("/", "/health/ready", "/live", "/docs", "/docs/docs.js", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        for headers in ({}, {"X-API-Key": "wq_guess"}, {"Authorization": "Basic x"}):
            for method, path in (("GET", "/model"), ("GET", "/metrics"), ("GET", "/live/data"),
                                 ("POST", "/predict"), ("POST", "/predict/batch"),
                                 ("POST", "/invocations"), ("POST", "/ground-truth")):  # fmt: skip
                answer = await client.request(method, path, json=WINE, headers=headers)
                assert answer.status_code == 401, path
                assert answer.headers["WWW-Authenticate"] == "Bearer"
        for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
            assert (await client.post("/predict", json=WINE, headers=headers)).status_code == 200
            assert (await client.get("/model", headers=headers)).status_code == 403

    ask(guarded, work)
    assert set(logged(settings)["source"]) == {"cellar"}


@pytest.mark.parametrize("page", ["/live", "/docs"])
def test_a_page_takes_nothing_from_elsewhere(registered, settings, page: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        answer = await client.get(page)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "unsafe" not in answer.headers["content-security-policy"]
        needed = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
        # relative to the page, so that they are found under any prefix
        folder = page.removeprefix("/")
        assert f"{folder}/{folder}.js" in needed
        for name in needed:
            assert name == "data:," or not name.startswith("/")
            if name.startswith(f"{folder}/"):
                found = await client.get(f"/{name}")
                assert found.status_code == 200
                kind = "javascript" if name.endswith(".js") else "css"
                assert found.headers["content-type"] == f"text/{kind}; charset=utf-8"

    ask(settings, work)


def test_without_keys_only_localhost_is_answered(registered, settings) -> None:
    registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        headers = {"Host": "evil.example"}
        assert (await client.post("/predict", json=WINE, headers=headers)).status_code == 403
        for host in ("localhost:8000", "[::1]:8000", "127.0.0.1"):
            answer = await client.post("/predict", json=WINE, headers={"Host": host})
            assert answer.status_code == 200

    ask(settings, work)


def test_limits(registered, settings) -> None:
    registered.add()
    small = settings.model_copy(update={"body_limit": 2048, "batch_limit": 2, "rate_limit": 5.0})

    async def work(client: httpx.AsyncClient) -> None:
        async def stream() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b" " * 1000

        json_type = {"Content-Type": "application/json"}
        large = await client.post("/predict", content=b" " * 3000, headers=json_type)
        streamed = await client.post("/predict", content=stream(), headers=json_type)
        many = await client.post("/predict/batch", json={"wines": [WINE] * 3})
        assert [large.status_code, streamed.status_code, many.status_code] == [413] * 3
        for wrong in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
            answer = await client.post("/predict", content=b"{}", headers={"Content-Type": wrong})
            assert answer.status_code in (415, 429)
        statuses = [(await client.post("/predict", json=WINE)).status_code for _ in range(20)]
        assert 429 in statuses
        answer = await client.post("/predict", json=WINE)
        assert int(answer.headers["Retry-After"]) >= 1

    ask(small, work)


def test_a_request_that_takes_too_long_is_given_up(registered, settings) -> None:
    registered.add()
    hasty = settings.model_copy(update={"time_limit_s": 2.0})

    async def work(client: httpx.AsyncClient) -> None:
        async def slow() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.sleep(30)
            yield b"}"

        headers = {"Content-Type": "application/json"}
        answer = await client.post("/predict", content=slow(), headers=headers)
        assert answer.status_code in (408, 503)
        assert (await client.post("/predict", json=WINE)).status_code == 200

    ask(hasty, work)


def test_headers_and_request_ids(registered, settings) -> None:
    registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        page = await client.get("/live")
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        assert page.headers["X-Frame-Options"] == "DENY"
        named = await client.get("/model", headers={"X-Request-Id": "abc-1"})
        assert named.headers["X-Request-Id"] == "abc-1"
        forged = await client.get("/model", headers={"X-Request-Id": 'a" b'})
        assert forged.headers["X-Request-Id"] != 'a" b'
        assert forged.headers["X-Content-Type-Options"] == "nosniff"

    ask(settings, work)


def test_a_failure_inside_is_not_told_to_the_client(registered, settings, caplog) -> None:
    registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        service = client.app.state.service  # type: ignore[attr-defined]
        service.queue.append = None
        answer = await client.post("/predict", json=WINE, headers={"X-Request-Id": "look-here"})
        assert answer.status_code == 500
        assert "NoneType" not in answer.text

    ask(settings, work)
    (record,) = [r for r in caplog.records if r.message == "A request failed"]
    assert record.request_id == "look-here"
    assert "NoneType" in str(record.exc_info)


def test_no_secret_in_log_lines(registered, settings, caplog) -> None:
    registered.add()
    guarded, key = keyed(settings, "read", "write", log_all_requests=True)
    caplog.set_level("DEBUG", "wine_quality")

    async def work(client: httpx.AsyncClient) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        assert (await client.post("/predict", json=WINE, headers=headers)).status_code == 200

    ask(guarded, work)
    (line,) = [r for r in caplog.records if getattr(r, "path", "") == "/predict"]
    assert (line.caller, line.status) == ("cellar", 200)
    shown = " ".join(f"{r.message} {vars(r)}" for r in caplog.records)
    assert key not in shown
    assert key not in repr(guarded)


# The live page's figures


def test_live_figures(registered, settings) -> None:
    version = registered.add()
    wines = registered.wines

    async def work(client: httpx.AsyncClient) -> None:
        body = {"wines": wines_of(wines.head(220))}
        answer = await client.post("/predict/batch", json=body)
        ids = [p["prediction_id"] for p in answer.json()["predictions"]]
        labels = [
            {"prediction_id": name, "quality": int(quality)}
            for name, quality in zip(ids, wines["quality"], strict=False)
        ]
        await client.post("/ground-truth", json={"labels": labels})
        data = (await client.get("/live/data")).json()
        assert data["counters"]["requests"] == {"200": 2}
        assert data["counters"]["predictions"] == 220
        assert [(v["version"], v["n"]) for v in data["versions"]] == [(version, 220)]
        assert data["predictions"]["n"] == 220
        assert sum(data["predictions"]["now"]) == pytest.approx(1)
        assert data["drift"]["n"] == 200
        assert {c["verdict"] for c in data["drift"]["columns"]} == {"ok"}
        assert data["error"]["n"] == 220
        assert data["error"]["verdict"] == "ok"

        service = client.app.state.service  # type: ignore[attr-defined]
        service.live._judged_at = service.live._made_at = -np.inf
        sweet = wines.head(220).assign(residual_sugar=wines["residual_sugar"] + 40)
        await client.post("/predict/batch", json={"wines": wines_of(sweet)})
        data = (await client.get("/live/data")).json()
        drifted = {c["column"] for c in data["drift"]["columns"] if c["verdict"] == "drift"}
        assert "residual_sugar" in drifted
        assert drifted <= {"residual_sugar", "prediction", "joint"}

    ask(settings, work)


def test_live_figures_before_anything_happened(registered, settings) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        data = (await client.get("/live/data")).json()
        assert data["model"] is None
        assert "The registry has no champion of wine-" in data["model_trouble"]
        await asyncio.to_thread(registered.add)

        async def loaded() -> bool:
            return (await client.get("/live/data")).json()["model"] is not None

        await until(loaded)
        data = (await client.get("/live/data")).json()
        assert (data["drift"]["n"], data["error"]["n"]) == (0, 0)

    ask(settings, work)


def test_the_registry_is_asked_first_under_the_lock_of_its_setting_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock
    from mlflow.tracking._tracking_service import utils

    from wine_quality.serving import served_model

    held = []

    class Registry:
        def __init__(self, name: str, *, trusted_types: object) -> None:
            lock = FileLock(tmp_path / "mlflow.db.setup-lock", timeout=0)
            try:
                with lock:
                    held.append(False)
            except TimeoutError:
                held.append(True)

        def version(self, alias: str) -> None:
            return None

    monkeypatch.setattr(served_model, "ModelRegistry", Registry)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    loader = served_model.ModelLoader(uri, "wine-quality", "champion")
    with utils._use_tracking_uri(uri):
        for _ in range(2):
            assert loader.wanted() is None
    assert held == [True, False]
