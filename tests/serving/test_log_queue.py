"""Group commit: who is answered is on disk, whoever waits and whatever fails."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from wine_quality.database.errors import DatabaseUnavailableError
from wine_quality.serving import log_queue
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.log_queue import Commit, LogQueue, QueueFullError
from wine_quality.serving.prediction_batch import LoggedBatch, PredictionBatch, RequestConflictError

MakeBatch = Callable[..., PredictionBatch]


class Fragile(InferenceLog):
    """A log whose database can be taken away."""

    gone = False

    def append_many(
        self, batches: Sequence[PredictionBatch]
    ) -> list[LoggedBatch | RequestConflictError]:
        if self.gone:
            raise DatabaseUnavailableError("gone")
        if any(np.isnan(batch.predictions).any() for batch in batches):
            raise ZeroDivisionError
        return super().append_many(batches)

    def check(self) -> None:
        if self.gone:
            raise DatabaseUnavailableError("gone")


async def found_again(queue: LogQueue) -> None:
    async with asyncio.timeout(20):
        while queue.trouble:
            await asyncio.sleep(0.02)


async def refused(queue: LogQueue, batch: PredictionBatch) -> str:
    """Append a batch that must be refused, at once; returns the reason."""
    async with asyncio.timeout(20):
        with pytest.raises(DatabaseUnavailableError) as error:
            await queue.append(batch)
    return str(error.value)


@pytest.fixture
def fragile(tmp_path: Path) -> Fragile:
    return Fragile(f"sqlite:///{tmp_path}/log.db")


def test_requests_that_wait_share_a_commit(fragile: Fragile, make_batch: MakeBatch) -> None:
    commits: list[Commit] = []

    async def main() -> list[LoggedBatch]:
        queue = LogQueue(fragile, on_commit=commits.append)
        batches = [make_batch(3) for _ in range(50)]
        queue.start()
        try:
            found = await asyncio.gather(*(queue.append(batch) for batch in batches))
        finally:
            await queue.close()
        assert queue.rows == 0
        return found

    logged = asyncio.run(main())
    # all had come before the first turn of the event loop was over
    assert [(c.requests, c.rows) for c in commits] == [(50, 150)]
    ids = [str(i) for batch in logged for i in batch.prediction_ids]
    assert sorted(ids) == sorted(fragile.read()["prediction_id"])


def test_a_group_goes_on_while_every_turn_brings_a_request_but_not_for_ever(
    fragile: Fragile, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commits_of(seconds: float) -> list[int]:
        monkeypatch.setattr(log_queue, "GATHER_S", seconds)
        commits: list[Commit] = []

        async def main() -> None:
            queue = LogQueue(fragile, on_commit=commits.append)
            queue.start()
            asked = []
            for _ in range(8):
                asked.append(asyncio.ensure_future(queue.append(make_batch())))
                await asyncio.sleep(0)
            await asyncio.gather(*asked)
            await queue.close()

        asyncio.run(main())
        assert sum(c.requests for c in commits) == 8
        return [c.requests for c in commits]

    assert commits_of(60) == [8]
    assert commits_of(0)[0] == 1


def test_a_large_group_is_cut(
    fragile: Fragile, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "GROUP_ROWS", 10)
    commits: list[Commit] = []

    async def main() -> None:
        queue = LogQueue(fragile, on_commit=commits.append)
        queue.start()
        await asyncio.gather(*(queue.append(make_batch(4)) for _ in range(7)))
        await queue.close()

    asyncio.run(main())
    assert [c.rows for c in commits] == [12, 12, 4]


def test_closing_writes_what_waits(fragile: Fragile, make_batch: MakeBatch) -> None:
    async def main() -> LoggedBatch:
        queue = LogQueue(fragile)
        queue.start()
        waiting = asyncio.ensure_future(queue.append(make_batch()))
        await asyncio.sleep(0)
        await queue.close()
        return await waiting

    assert len(asyncio.run(main()).prediction_ids) == len(fragile.read()) == 1


def test_closing_does_not_wait_for_a_lost_database(
    fragile: Fragile, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "PROBE_S", 600)

    async def main() -> None:
        queue = LogQueue(fragile)
        queue.start()
        fragile.gone = True
        with pytest.raises(DatabaseUnavailableError, match="gone"):
            await queue.append(make_batch())
        async with asyncio.timeout(20):
            await queue.close()

    asyncio.run(main())


def test_a_full_queue_turns_away(fragile: Fragile, make_batch: MakeBatch) -> None:
    async def main() -> None:
        queue = LogQueue(fragile, max_rows=10)
        queue.start()
        first = asyncio.ensure_future(queue.append(make_batch(8)))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await queue.append(make_batch(3))
        await first
        await queue.append(make_batch(3))
        await queue.close()

    asyncio.run(main())
    assert len(fragile.read()) == 11


def test_a_lost_database_is_said_at_once_and_found_again(
    fragile: Fragile, make_batch: MakeBatch
) -> None:
    async def main() -> None:
        queue = LogQueue(fragile)
        queue.start()
        fragile.gone = True
        results = await asyncio.gather(
            *(queue.append(make_batch()) for _ in range(20)), return_exceptions=True
        )
        assert {type(r) for r in results} == {DatabaseUnavailableError}
        assert queue.trouble == "gone"
        assert queue.rows == 0
        fragile.gone = False
        await found_again(queue)
        await queue.append(make_batch())
        await queue.close()

    asyncio.run(main())
    assert len(fragile.read()) == 1


def test_one_bad_batch_takes_no_other_down(fragile: Fragile, make_batch: MakeBatch) -> None:
    async def main() -> list[LoggedBatch | BaseException]:
        queue = LogQueue(fragile)
        good, bad = [make_batch() for _ in range(5)], make_batch()
        bad.predictions[0] = np.nan
        waiting = [asyncio.ensure_future(_late(queue, b)) for b in (*good[:2], bad, *good[2:])]
        queue.start()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        await queue.close()
        return results

    async def _late(queue: LogQueue, batch: PredictionBatch) -> LoggedBatch:
        await asyncio.sleep(0)
        return await queue.append(batch)

    results = asyncio.run(main())
    assert [isinstance(r, LoggedBatch) for r in results] == [True, True, False, True, True, True]
    assert isinstance(results[2], ZeroDivisionError)
    assert len(fragile.read()) == 5


def test_who_gave_up_is_not_written(fragile: Fragile, make_batch: MakeBatch) -> None:
    async def main() -> None:
        queue = LogQueue(fragile)
        queue.start()
        impatient = asyncio.ensure_future(queue.append(make_batch()))
        # cancelled before the event loop lets the batch be handed over
        impatient.cancel()
        patient = await queue.append(make_batch())
        await queue.close()
        assert [str(i) for i in patient.prediction_ids] == fragile.read()["prediction_id"].tolist()

    asyncio.run(main())


# the writer outlives what goes wrong, or says that it did not


def test_a_look_that_fails_unexpectedly_is_repeated(
    fragile: Fragile, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "PROBE_S", 0.01)
    looks: list[str] = []

    def check() -> None:
        looks.append(queues[0].trouble)
        if len(looks) < 3:
            raise RuntimeError("odd")

    queues: list[LogQueue] = []
    monkeypatch.setattr(fragile, "check", check)

    async def main() -> None:
        queue = LogQueue(fragile)
        queues.append(queue)
        queue.start()
        fragile.gone = True
        await refused(queue, make_batch())
        fragile.gone = False
        await found_again(queue)
        await queue.append(make_batch())
        await queue.close()

    asyncio.run(main())
    assert looks[0] == "gone"
    assert all("odd" in trouble for trouble in looks[1:])
    assert len(fragile.read()) == 1


def test_a_commit_that_cannot_be_reported_stops_nothing(
    fragile: Fragile, make_batch: MakeBatch, caplog: pytest.LogCaptureFixture
) -> None:
    def report(_: Commit) -> None:
        raise OSError("no space left")

    async def main() -> None:
        queue = LogQueue(fragile, on_commit=report)
        queue.start()
        async with asyncio.timeout(20):
            for _ in range(3):
                await queue.append(make_batch())
            await queue.close()

    asyncio.run(main())
    assert len(fragile.read()) == 3
    assert caplog.text.count("A commit could not be reported") == 3


def test_a_closed_queue_turns_away(fragile: Fragile, make_batch: MakeBatch) -> None:
    async def main() -> None:
        queue = LogQueue(fragile)
        queue.start()
        assert not queue.trouble
        await queue.close()
        assert "stopping" in queue.trouble
        assert await refused(queue, make_batch()) == queue.trouble

    asyncio.run(main())
    assert fragile.read().empty


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_was_cut_off_leaves_nobody_waiting(
    fragile: Fragile, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        queue = LogQueue(fragile)
        handed, goes_on = threading.Event(), threading.Event()

        def cut_off(_: object) -> None:
            handed.set()
            goes_on.wait(20)
            raise SystemExit

        monkeypatch.setattr(fragile, "append_many", cut_off)
        queue.start()
        first = asyncio.ensure_future(refused(queue, make_batch(2)))
        await asyncio.to_thread(handed.wait, 20)
        second = asyncio.ensure_future(refused(queue, make_batch(3)))
        await asyncio.sleep(0)
        assert queue.rows == 5
        goes_on.set()
        for waiting in (first, second):
            assert "stopping" in await waiting
        assert queue.rows == 0
        assert await refused(queue, make_batch()) == queue.trouble
        async with asyncio.timeout(20):
            await queue.close()

    asyncio.run(main())


def test_a_commit_that_hangs_keeps_nobody_else_waiting(
    fragile: Fragile, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "STALLED_S", 0.05)
    monkeypatch.setattr(log_queue, "CLOSE_S", 0.05)
    goes_on = threading.Event()
    append_many = fragile.append_many

    def hang(batches: Sequence[PredictionBatch]) -> list[LoggedBatch | RequestConflictError]:
        goes_on.wait(20)
        return append_many(batches)

    monkeypatch.setattr(fragile, "append_many", hang)

    async def main() -> None:
        queue = LogQueue(fragile)
        queue.start()
        waiting = asyncio.ensure_future(refused(queue, make_batch()))
        async with asyncio.timeout(20):
            while not queue.trouble:
                await asyncio.sleep(0.01)
        assert "has not answered for" in queue.trouble
        assert "has not answered for" in await refused(queue, make_batch())
        # it ends all the same, and says that it could not write everything
        async with asyncio.timeout(20):
            assert not await queue.close()
        assert "stopping" in await waiting
        assert queue.rows == 0
        goes_on.set()
        monkeypatch.setattr(log_queue, "CLOSE_S", 20)
        assert await queue.close()
        assert queue.rows == 0

    asyncio.run(main())


def test_a_queue_is_started_once(fragile: Fragile, make_batch: MakeBatch) -> None:
    async def main() -> None:
        queue = LogQueue(fragile)
        with pytest.raises(RuntimeError, match="has not been started"):
            await queue.append(make_batch())
        queue.start()
        with pytest.raises(RuntimeError, match="started before"):
            queue.start()
        assert await queue.close()

    asyncio.run(main())


def test_a_repeated_request_is_no_commit(fragile: Fragile, make_batch: MakeBatch) -> None:
    commits: list[Commit] = []

    async def main() -> None:
        queue = LogQueue(fragile, on_commit=commits.append)
        queue.start()
        batch = make_batch(3, request_id="again")
        for _ in range(2):
            await queue.append(batch)
        await queue.close()

    asyncio.run(main())
    assert [(c.requests, c.rows) for c in commits] == [(1, 3)]


def test_only_what_was_logged_counts_as_a_commit(fragile: Fragile, make_batch: MakeBatch) -> None:
    commits: list[Commit] = []

    async def main() -> None:
        queue = LogQueue(fragile, on_commit=commits.append)
        queue.start()
        good, bad = make_batch(2), make_batch(3)
        bad.predictions[0] = np.nan
        await asyncio.gather(queue.append(good), queue.append(bad), return_exceptions=True)
        fragile.gone = True
        await refused(queue, make_batch())
        await queue.close()

    asyncio.run(main())
    assert [(c.requests, c.rows) for c in commits] == [(1, 2)]


def test_a_database_lost_between_single_batches_is_asked_no_further(
    fragile: Fragile, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    append_many = fragile.append_many

    def lose(batches: Sequence[PredictionBatch]) -> list[LoggedBatch | RequestConflictError]:
        asked.append(len(batches))
        if len(asked) == 1:
            raise ZeroDivisionError
        fragile.gone = len(asked) > 2
        return append_many(batches)

    monkeypatch.setattr(fragile, "append_many", lose)

    async def main() -> list[LoggedBatch | BaseException]:
        queue = LogQueue(fragile)
        queue.start()
        batches = [make_batch() for _ in range(6)]
        results = await asyncio.gather(*map(queue.append, batches), return_exceptions=True)
        await queue.close()
        return results

    results = asyncio.run(main())
    assert asked == [6, 1, 1]
    assert [type(r) for r in results] == [LoggedBatch, *[DatabaseUnavailableError] * 5]
