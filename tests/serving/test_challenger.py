"""The challenger beside the champion: canary answers, shadow answers, and what keeps it quiet."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pandas as pd
import pytest

from tests import crafted_versions as crafted
from tests.serving.in_process import WINE, ask, keyed, logged, until, wines_of
from wine_quality.errors import WineQualityError
from wine_quality.serving import challenger as challenger_module
from wine_quality.serving import challenger_thread
from wine_quality.serving.challenger import Challenger, is_canary, is_shadowed
from wine_quality.serving.challenger_thread import ChallengerThread, Shadow
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.prediction_batch import LoggedBatch
from wine_quality.serving.served_model import ServedModel
from wine_quality.serving.settings import ServiceSettings
from wine_quality.serving.wine_requests import Wines

# Who is a canary, and what is shadowed


def test_a_client_is_a_canary_by_a_hash_of_its_name_alone() -> None:
    # written down: other workers and later releases have to agree
    names = ("cellar", "shop", "lab", "till")
    assert [is_canary(name, 0.5) for name in names] == [False, True, True, True]
    assert not any(is_canary(str(i), 0) for i in range(1_000))
    assert all(is_canary(str(i), 1) for i in range(1_000))


def test_a_growing_share_only_adds_clients() -> None:
    clients = [f"client-{i}" for i in range(20_000)]
    before: set[str] = set()
    for share in (0.01, 0.1, 0.25, 0.5, 0.9):
        now = {client for client in clients if is_canary(client, share)}
        assert before <= now
        # four standard deviations of a binomial count
        assert abs(len(now) / len(clients) - share) < 4 * np.sqrt(share * (1 - share) / 20_000)
        before = now


def test_the_hash_of_clients_is_uniform() -> None:
    edges = np.linspace(0, 1, 21)
    inside = np.array([[is_canary(f"k{i}", edge) for edge in edges] for i in range(10_000)])
    counts = np.diff(inside.sum(axis=0))
    # chi-squared with 19 degrees of freedom: 43.8 is its 99.9th percentile
    assert ((counts - 500) ** 2 / 500).sum() < 43.8


def test_a_share_of_the_predictions_is_shadowed() -> None:
    ids = [uuid7_batch(1)[0] for _ in range(10_000)]
    assert all(is_shadowed(i, 1) for i in ids)
    assert not any(is_shadowed(i, 0) for i in ids)
    assert abs(np.mean([is_shadowed(i, 0.3) for i in ids]) - 0.3) < 0.02
    assert is_shadowed(UUID(int=0xFFFFFFFF), 1)
    assert not is_shadowed(UUID(int=0xFFFFFFFF), 0.999999)


# The service


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenger_thread, "GATHER_S", 0.01)


@pytest.fixture
def shadowing(settings: ServiceSettings, quick: None) -> ServiceSettings:
    """A service that shadows everything, on however slow a machine."""
    return settings.model_copy(update={"shadow_share": 1.0, "shadow_slow_ms": 60_000.0})


def shadowed(settings: ServiceSettings) -> pd.DataFrame:
    with InferenceLog(settings.log_url) as log:
        return log.read_shadowed()


def figure(text: str, name: str) -> float:
    """A figure of `/metrics`; 0 if it is not there."""
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))


async def shadow_wines(client: httpx.AsyncClient) -> dict[str, float]:
    """How many wines there are of each fate."""
    text = (await client.get("/metrics")).text
    fates = ("written", "dropped", "failed")
    return {
        fate: figure(text, f'wine_quality_shadow_wines_total{{fate="{fate}"}}') for fate in fates
    }


async def all_written(client: httpx.AsyncClient, n: int) -> None:
    async def written() -> bool:
        return (await shadow_wines(client))["written"] >= n

    await until(written)
    assert await shadow_wines(client) == {"written": n, "dropped": 0, "failed": 0}


def test_the_challengers_shadow_stands_apart_in_the_log(registered, shadowing) -> None:
    first = registered.add()
    second = registered.add(alias="challenger")
    wines = registered.wines.head(40)

    async def work(client: httpx.AsyncClient) -> None:
        for wine in wines_of(wines.head(10)):
            answer = await client.post("/predict", json=wine)
            assert answer.json()["model_version"] == first
        await client.post("/predict/batch", json={"wines": wines_of(wines)})
        key = {"Idempotency-Key": "once"}
        for _ in range(2):
            await client.post("/predict", json=WINE, headers=key)
        await all_written(client, 51)
        ready = (await client.get("/health/ready")).json()
        assert ready == {"status": "ready", "warnings": []}
        model = (await client.get("/model")).json()
        assert (model["version"], model["challenger"]["version"]["version"]) == (first, second)
        assert model["challenger"]["version"]["alias"] == "challenger"

    ask(shadowing, work)
    # nothing of it is among the predictions that are monitored
    rows = logged(shadowing)
    assert (len(rows), set(rows["model_version"])) == (51, {first})
    found = shadowed(shadowing)
    pd.testing.assert_frame_equal(found[rows.columns], rows)
    assert set(found["shadow_version"]) == {second}
    # the same trees
    assert np.allclose(found["shadow_prediction"], found["prediction"])


def test_closing_writes_the_shadow_answers_that_wait(
    registered, shadowing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenger_thread, "GATHER_S", 1e6)
    registered.add()
    registered.add(alias="challenger")

    async def work(client: httpx.AsyncClient) -> None:
        await client.post("/predict/batch", json={"wines": wines_of(registered.wines.head(1_000))})
        assert (await shadow_wines(client))["written"] == 0

    ask(shadowing, work)
    n = len(registered.wines.head(1_000))
    assert len(shadowed(shadowing)) == n


def test_live_figures_of_the_challenger(registered, shadowing) -> None:
    registered.add()
    version = registered.add(alias="challenger")
    wines = registered.wines.head(60)

    async def work(client: httpx.AsyncClient) -> None:
        data = (await client.get("/live/data")).json()
        assert data["pairs"]["n"] == 0
        assert data["pairs"]["mean_difference"] is None
        answer = await client.post("/predict/batch", json={"wines": wines_of(wines)})
        await all_written(client, 60)
        labels = [
            {"prediction_id": p["prediction_id"], "quality": int(quality)}
            for p, quality in zip(
                answer.json()["predictions"][:20], wines["quality"][:20], strict=True
            )
        ]
        await client.post("/ground-truth", json={"labels": labels})
        live = client.app.state.service.live  # type: ignore[attr-defined]
        live._judged_at = live._made_at = -np.inf
        data = (await client.get("/live/data")).json()
        assert data["counters"]["shadow"] == {"written": 60}
        assert data["counters"]["canary_fallbacks"] == 0
        assert data["challenger"]["version"]["version"] == version
        assert data["challenger"]["trouble"] == ""
        pairs = data["pairs"]
        assert (pairs["n"], pairs["labelled"]) == (60, 20)
        assert pairs["mean_difference"] == pytest.approx(0, abs=1e-9)
        assert pairs["challenger_mae"] == pytest.approx(pairs["mae"])

    ask(shadowing, work)


def test_without_shares_nothing_of_the_challenger_is_loaded(registered, settings) -> None:
    registered.add()
    registered.add(alias="challenger")

    async def work(client: httpx.AsyncClient) -> None:
        model = (await client.get("/model")).json()
        assert model["challenger"] is None
        assert (await client.get("/live/data")).json()["challenger"] is None
        assert "challenger" not in {thread.name for thread in threading.enumerate()}

    ask(settings, work)


async def warned(client: httpx.AsyncClient, part: str) -> None:
    async def said() -> bool:
        warnings = (await client.get("/health/ready")).json()["warnings"]
        return any(part in warning for warning in warnings)

    await until(said)


async def challenger_is(client: httpx.AsyncClient, version: str | None) -> None:
    async def there() -> bool:
        found = (await client.get("/model")).json()["challenger"]["version"]
        return (found and found["version"]) == version

    await until(there)


def test_the_challenger_follows_the_registry(registered, shadowing, caplog) -> None:
    first = registered.add()
    settings = shadowing.model_copy(update={"canary_share": 1.0, "reload_s": 0.05})

    async def version(client: httpx.AsyncClient) -> str:
        answer = await client.post("/predict", json=WINE)
        assert answer.status_code == 200
        return answer.json()["model_version"]

    async def work(client: httpx.AsyncClient) -> None:
        await warned(client, "has no challenger")
        assert await version(client) == first
        second = await asyncio.to_thread(lambda: registered.add(alias="challenger"))
        await challenger_is(client, second)
        assert await version(client) == second
        # promoted: it answers as champion, and is nobody's shadow
        before = await asyncio.to_thread(registered.registry.version, "champion")
        await asyncio.to_thread(registered.registry.promote, second, before)
        await challenger_is(client, None)

        async def champion() -> bool:
            return (await client.get("/model")).json()["version"] == second

        await until(champion)
        assert await version(client) == second
        third = await asyncio.to_thread(lambda: registered.add(alias="challenger"))
        await challenger_is(client, third)
        assert await version(client) == third
        events = (await client.get("/model")).json()["challenger"]["events"]
        assert [(e["kind"], e["version"]) for e in events] == [
            ("loaded", second), ("withdrawn", second), ("loaded", third),
        ]  # fmt: skip
        assert (await shadow_wines(client)) == {"written": 0, "dropped": 0, "failed": 0}

    ask(settings, work)
    absent = [r for r in caplog.records if r.message == "No model"]
    assert [r.alias for r in absent] == ["challenger", "challenger"]
    assert logged(settings)["model_version"].tolist() == ["1", "2", "2", "3"]
    # no answer was shadowed by the version that gave it
    assert shadowed(settings).empty


def test_a_crafted_challenger_is_refused_and_the_champion_goes_on(
    registered, shadowing, tmp_path, caplog
) -> None:
    marker = tmp_path / "it-ran"
    saved = crafted.save_model(registered.model, tmp_path / "model")
    crafted.swap_skops(saved, crafted.skops_with(crafted.constructor(marker)))
    second = crafted.register(registered.registry.name, saved)
    registered.registry.set_alias("challenger", second)
    first = registered.add()
    settings = shadowing.model_copy(update={"canary_share": 1.0})

    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.post("/predict", json=WINE)).json()["model_version"] == first
        await warned(client, "give another the alias challenger")
        described = (await client.get("/model")).json()
        assert described["challenger"]["version"] is None
        (event,) = described["challenger"]["events"]
        assert (event["kind"], event["version"]) == ("refused", second)
        assert described["refused"] is None
        metrics = (await client.get("/metrics")).text
        assert figure(metrics, 'wine_quality_model_refused{alias="challenger"}') == 1
        # it is tried again and again, and said once
        await asyncio.sleep(0.5)
        registered.registry._client.delete_registered_model_alias(
            registered.registry.name, "challenger"
        )
        await warned(client, "has no challenger")
        metrics = (await client.get("/metrics")).text
        assert figure(metrics, 'wine_quality_model_refused{alias="challenger"}') == 0

    ask(settings, work)
    assert not marker.exists()
    alerts = [r for r in caplog.records if r.message.startswith("ALERT")]
    assert [r.alias for r in alerts] == ["challenger"]
    assert shadowed(settings).empty


# Canary answers


@pytest.fixture
def canary(settings: ServiceSettings) -> ServiceSettings:
    return settings.model_copy(update={"canary_share": 0.5})


def test_a_client_is_answered_by_one_version(registered, canary) -> None:
    first = registered.add()
    second = registered.add(alias="challenger")
    wines = wines_of(registered.wines.head(30))

    async def work(client: httpx.AsyncClient) -> None:
        versions: dict[str, set[str]] = {}
        for i in range(40):
            name = f"client-{i % 20}"
            headers = {"X-Client-Id": name, "Idempotency-Key": str(i), "X-Request-Id": str(i)}
            answer = (await client.post("/predict", json=WINE, headers=headers)).json()
            versions.setdefault(name, set()).add(answer["model_version"])
        expected = {n: {second if is_canary(n, 0.5) else first} for n in versions}
        assert versions == expected
        # a canary's batch is answered whole by the challenger, and so is any other body
        (name, *_) = [n for n in versions if versions[n] == {second}]
        headers = {"X-Client-Id": name}
        batch = await client.post("/predict/batch", json={"wines": wines}, headers=headers)
        assert {p["model_version"] for p in batch.json()["predictions"]} == {second}
        table = {"dataframe_records": wines}
        answer = (await client.post("/invocations", json=table, headers=headers)).json()
        assert answer["model_version"] == second
        text = (await client.get("/metrics")).text
        n = sum(versions[f"client-{i % 20}"] == {second} for i in range(40))
        name = f'wine_quality_predictions_total{{model_version="{second}"}}'
        assert figure(text, name) == n + 60
        assert figure(text, "wine_quality_canary_fallbacks_total") == 0

    ask(canary, work)
    rows = logged(canary)
    assert set(rows["model_version"]) == {first, second}
    expected = registered.model.predict(rows[rows.columns.intersection(registered.wines.columns)])
    assert np.allclose(rows["prediction"], expected, atol=1e-4)


def test_a_request_without_a_client_is_its_own(registered, canary) -> None:
    first = registered.add()
    second = registered.add(alias="challenger")

    async def work(client: httpx.AsyncClient) -> None:
        for key in map(str, range(10)):
            headers = {"Idempotency-Key": key}
            answers = [await client.post("/predict", json=WINE, headers=headers) for _ in range(2)]
            expected = second if is_canary(key, 0.5) else first
            assert [a.json()["model_version"] for a in answers] == [expected, expected]
        seen = {(await client.post("/predict", json=WINE)).json()["model_version"]
                for _ in range(40)}  # fmt: skip
        assert seen == {first, second}

    ask(canary, work)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_api_key_is_a_client(registered, settings, share) -> None:
    registered.add()
    registered.add(alias="challenger")
    guarded, key = keyed(settings, "write", canary_share=share, shadow_share=0.5)

    async def work(client: httpx.AsyncClient) -> None:
        for i in range(5):
            headers = {"X-API-Key": key, "Idempotency-Key": str(i)}
            answer = await client.post("/predict", json=WINE, headers=headers)
            assert answer.json()["model_version"] == ("2" if share else "1")

    ask(guarded, work)


class Held:
    """An engine that answers when it is allowed to, and then with another one's answers or NaN."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.broken = False
        self.called = threading.Event()
        self.allowed = threading.Event()

    def __call__(self, types: Any, measurements: Any) -> Any:
        self.called.set()
        assert self.allowed.wait(60)
        answers = self.engine(types, measurements)
        return np.full_like(answers, np.nan) if self.broken else answers


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Holds the challenger's engine, whichever is loaded."""
    engine = Held(None)
    load = challenger_module.ModelWatcher._refresh

    def refresh(watcher: Any) -> None:
        load(watcher)
        if watcher.alias == "challenger" and watcher.model.engine is not engine:
            engine.engine = watcher.model.engine
            watcher.model = replace(watcher.model, engine=engine)

    monkeypatch.setattr(challenger_module.ModelWatcher, "_refresh", refresh)
    yield engine
    engine.allowed.set()


async def fallbacks(client: httpx.AsyncClient) -> float:
    return figure((await client.get("/metrics")).text, "wine_quality_canary_fallbacks_total")


def test_a_canary_that_does_not_answer_leaves_it_to_the_champion(
    registered, canary, held, caplog
) -> None:
    first = registered.add()
    second = registered.add(alias="challenger")
    settings = canary.model_copy(update={"canary_share": 1.0, "retry_refused_s": 0.5})
    held.broken = True
    held.allowed.set()

    async def work(client: httpx.AsyncClient) -> None:
        for n in range(1, 6):
            answer = (await client.post("/predict", json=WINE)).json()
            assert answer["model_version"] == first
            assert await fallbacks(client) == n
        await warned(client, "The challenger does not answer")
        held.broken = False

        async def back() -> bool:
            answer = (await client.post("/predict", json=WINE)).json()
            return answer["model_version"] == second

        await until(back)
        wrong = await client.post("/predict", json=WINE, headers={"Idempotency-Key": "x" * 300})
        assert wrong.status_code == 422

    ask(settings, work)
    assert [r.message for r in caplog.records].count("ALERT: the challenger does not answer") == 1


def test_a_slow_challenger_holds_up_nobody_else(
    registered, canary, held, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = registered.add()
    second = registered.add(alias="challenger")
    settings = canary.model_copy(update={"time_limit_s": 6.0})
    monkeypatch.setattr(challenger_thread, "STALLED_S", 0.3)
    (mine, *_) = [f"c{i}" for i in range(99) if is_canary(f"c{i}", 0.5)]
    (other, *_) = [f"c{i}" for i in range(99) if not is_canary(f"c{i}", 0.5)]

    def post(client: httpx.AsyncClient, name: str) -> Any:
        return client.post("/predict", json=WINE, headers={"X-Client-Id": name})

    async def work(client: httpx.AsyncClient) -> None:
        waiting = asyncio.create_task(post(client, mine))
        assert await asyncio.to_thread(held.called.wait, 20)
        async with asyncio.timeout(1.9):
            for _ in range(5):
                assert (await post(client, other)).json()["model_version"] == first
            await warned(client, "takes too long")
            # who comes while it hangs does not wait for it
            assert (await post(client, mine)).json()["model_version"] == first
        assert not waiting.done()
        assert (await waiting).json()["model_version"] == first
        assert await fallbacks(client) == 2
        held.allowed.set()

        async def back() -> bool:
            return (await post(client, mine)).json()["model_version"] == second

        await until(back)

    ask(settings, work)
    # each request stands in the log once
    assert logged(settings)["prediction_id"].is_unique


# Overload


def test_a_full_queue_drops_shadow_answers_and_nothing_else(
    registered, shadowing, held, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered.add()
    registered.add(alias="challenger")
    settings = shadowing.model_copy(update={"shadow_rows": 10})

    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.post("/predict", json=WINE)).status_code == 200
        assert await asyncio.to_thread(held.called.wait, 20)
        for _ in range(30):
            assert (await client.post("/predict", json=WINE)).status_code == 200
        batch = {"wines": wines_of(registered.wines.head(50))}
        assert (await client.post("/predict/batch", json=batch)).status_code == 200
        assert await shadow_wines(client) == {"written": 0, "dropped": 71, "failed": 0}
        await warned(client, "Shadow answers were dropped")
        held.allowed.set()

        async def written() -> bool:
            return (await shadow_wines(client))["written"] == 10

        await until(written)

    ask(settings, work)
    assert len(logged(settings)) == 81
    assert len(shadowed(settings)) == 10


def test_a_request_of_more_wines_than_may_wait_is_taken_when_nothing_waits(
    registered, shadowing
) -> None:
    registered.add()
    registered.add(alias="challenger")
    settings = shadowing.model_copy(update={"shadow_rows": 10})

    async def work(client: httpx.AsyncClient) -> None:
        batch = {"wines": wines_of(registered.wines.head(50))}
        assert (await client.post("/predict/batch", json=batch)).status_code == 200
        await all_written(client, 50)

    ask(settings, work)


def test_shadow_answers_are_dropped_while_requests_take_long(registered, shadowing) -> None:
    registered.add()
    registered.add(alias="challenger")
    settings = shadowing.model_copy(update={"shadow_slow_ms": 1e-6})

    async def work(client: httpx.AsyncClient) -> None:
        for _ in range(5):
            assert (await client.post("/predict", json=WINE)).status_code == 200
        assert await shadow_wines(client) == {"written": 0, "dropped": 5, "failed": 0}
        await warned(client, "Shadow answers were dropped")

    ask(settings, work)
    assert len(logged(settings)) == 5


def test_large_requests_are_not_taken_for_overload(tmp_path, make_batch) -> None:
    fates: list[str] = []
    model = ServedModel("wine", "2", lambda types, _: np.full(len(types), 5.0), "onnx")
    batch = make_batch(1)
    wines = Wines(batch.types, batch.measurements, batch.event_times, None, ())
    challenger = Challenger(
        ServiceSettings(shadow_share=1.0, shadow_slow_ms=20.0),
        SimpleNamespace(model=model),  # type: ignore[arg-type]
        InferenceLog(f"sqlite:///{tmp_path}/log.db"),
        SimpleNamespace(trouble=""),  # type: ignore[arg-type]
        SimpleNamespace(shadowed=lambda fate, _: fates.append(fate)),  # type: ignore[arg-type]
    )
    for wines_asked, expected in ((5_000, []), (1, ["dropped"])):
        for _ in range(50):
            challenger.waited(60.0, wines_asked)
        challenger.shadow(LoggedBatch.of(batch), wines)
        assert fates == expected
    for _ in range(50):
        challenger.waited(2.0, 1)
    challenger.shadow(LoggedBatch.of(batch), wines)
    assert fates == ["dropped"]


def test_a_broken_challenger_is_said_once_and_left_alone(
    registered, shadowing, held, caplog
) -> None:
    registered.add()
    registered.add(alias="challenger")
    settings = shadowing.model_copy(update={"retry_refused_s": 0.3, "reload_s": 60.0})
    held.broken = True
    held.allowed.set()

    async def work(client: httpx.AsyncClient) -> None:
        async def failed() -> bool:
            assert (await client.post("/predict", json=WINE)).status_code == 200
            return (await shadow_wines(client))["failed"] > 1

        # tried more than once
        await until(failed)
        await warned(client, "The challenger does not answer")

    ask(settings, work)
    assert [r.message for r in caplog.records].count("ALERT: the challenger does not answer") == 1
    assert shadowed(settings).empty


def test_shadow_answers_that_cannot_be_logged_are_said_once(
    registered, shadowing, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    registered.add()
    registered.add(alias="challenger")
    write = InferenceLog.append_shadows
    broken = True

    def append(log: InferenceLog, answers: Any) -> None:
        if broken:
            raise WineQualityError("gone")
        write(log, answers)

    monkeypatch.setattr(InferenceLog, "append_shadows", append)

    async def work(client: httpx.AsyncClient) -> None:
        nonlocal broken

        async def failed() -> bool:
            assert (await client.post("/predict", json=WINE)).status_code == 200
            return (await shadow_wines(client))["failed"] > 3

        await until(failed)
        await warned(client, "Shadow answers cannot be logged")
        broken = False

        async def written() -> bool:
            assert (await client.post("/predict", json=WINE)).status_code == 200
            return (await shadow_wines(client))["written"] > 3

        await until(written)
        assert (await client.get("/health/ready")).json()["warnings"] == []

    ask(shadowing, work)
    said = [r for r in caplog.records if r.message == "Shadow answers cannot be logged"]
    assert [r.reason for r in said] == ["gone"]


def test_wines_wait_for_others_while_they_keep_coming(
    tmp_path, make_batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenger_thread, "GATHER_S", 0.2)
    written: list[int] = []

    class Counting(InferenceLog):
        def append_shadows(self, answers: Any) -> None:
            super().append_shadows(answers)
            written.append(sum(map(len, answers)))

    model = ServedModel("wine", "2", lambda types, _: np.full(len(types), 5.0), "onnx")
    batches = [make_batch(1) for _ in range(300)]

    async def work(log: InferenceLog) -> None:
        thread = ChallengerThread(log, 1_000, 1.0, 1.0)
        thread.start()
        for batch in batches:
            wines = Wines(batch.types, batch.measurements, batch.event_times, None, ())
            assert thread.shadow(Shadow(model, wines, batch.prediction_ids))
            await asyncio.sleep(0.003)
        assert await thread.close()

    with Counting(f"sqlite:///{tmp_path}/log.db") as log:
        log.append_many(batches)
        asyncio.run(work(log))
        assert len(log.read_shadowed()) == sum(written) == 300
    # and not a write for each
    assert len(written) < 60


def test_closing_does_not_wait_for_a_model_that_hangs(
    registered, shadowing, held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenger_thread, "CLOSE_S", 0.1)
    monkeypatch.setattr(challenger_thread, "STALLED_S", 0.1)
    registered.add()
    registered.add(alias="challenger")

    async def work(client: httpx.AsyncClient) -> None:
        await client.post("/predict", json=WINE)
        assert await asyncio.to_thread(held.called.wait, 20)

    async def main() -> None:
        async with asyncio.timeout(30):
            await asyncio.to_thread(ask, shadowing, work)

    asyncio.run(main())
    assert len(logged(shadowing)) == 1


@pytest.mark.parametrize("name", ["shadow_share", "canary_share"])
@pytest.mark.parametrize("value", ["-0.1", "1.01", "nan", "half"])
def test_a_share_out_of_range_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"WINE_QUALITY_{name.upper()}", value)
    with pytest.raises(WineQualityError, match=f"WINE_QUALITY_{name.upper()}: Input") as caught:
        ServiceSettings.from_environment()
    assert "\n" not in str(caught.value)
