"""One timer for all: what takes too long ends, and nothing else does."""

import asyncio

import pytest

from wine_quality.serving.time_limit import TimeLimit


def test_what_takes_too_long_ends_and_the_others_go_on() -> None:
    async def main() -> None:
        limit = TimeLimit(0.2)
        ended: list[str] = []

        async def work(name: str, begins: float, takes: float) -> str:
            await asyncio.sleep(begins)
            try:
                with limit:
                    await asyncio.sleep(takes)
            except TimeoutError:
                ended.append(name)
                # it is no longer cancelled
                await asyncio.sleep(0)
            return name

        names = await asyncio.gather(
            work("slow", 0, 60), work("quick", 0, 0), work("later", 0.1, 60), work("well", 0.1, 0)
        )
        assert names == ["slow", "quick", "later", "well"]
        assert ended == ["slow", "later"]
        # the timer begins again after a rest
        assert await work("again", 0, 60) == "again"
        assert ended == ["slow", "later", "again"]

    asyncio.run(asyncio.wait_for(main(), 30))


def test_who_is_cancelled_from_elsewhere_is_cancelled() -> None:
    async def main() -> None:
        limit = TimeLimit(60)

        async def work() -> None:
            with limit:
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(main(), 30))


def test_errors_pass() -> None:
    async def main() -> None:
        with TimeLimit(60):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
