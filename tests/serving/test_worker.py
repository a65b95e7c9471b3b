"""What a worker process sets up beside the application."""

import asyncio
import gc
import weakref

import pytest

from wine_quality.serving import worker
from wine_quality.serving.app import create_app


@pytest.fixture
def _thawed():
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_thawed")
def test_what_is_loaded_stays_out_of_the_collectors_sight() -> None:
    gc.unfreeze()
    worker.settle()
    assert gc.get_freeze_count() > 1_000


@pytest.mark.usefixtures("_thawed")
def test_a_version_that_was_replaced_does_not_stay_for_ever() -> None:
    class Model:
        pass

    model = Model()
    model.itself = model
    alive = weakref.ref(model)
    worker.settle()
    del model
    assert alive() is not None
    worker.settle()
    assert alive() is None


def test_every_version_that_is_loaded_settles(registered, settings) -> None:
    loaded: list[str] = []

    async def main() -> None:
        app = create_app(settings, on_loaded=lambda: loaded.append("loaded"))
        async with app.router.lifespan_context(app):
            service = app.state.service
            assert loaded == []
            for n in (1, 2):
                version = registered.add()
                async with asyncio.timeout(20):
                    while len(loaded) < n:
                        await asyncio.sleep(0.02)
                assert service.model().version == version
            # a version that is refused changes nothing
            registered.add(content=b"no model")
            async with asyncio.timeout(20):
                while service.watcher.refused is None:
                    await asyncio.sleep(0.02)

    asyncio.run(main())
    assert len(loaded) == 2
