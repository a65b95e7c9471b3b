"""Hot reload: the service answers with whichever version the registry's alias names."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from wine_quality.errors import WineQualityError
from wine_quality.modelling.loading import BrokenVersionError
from wine_quality.modelling.registry import RegisteredVersion
from wine_quality.serving.served_model import ModelLoader, ServedModel

logger = logging.getLogger(__name__)

EVENTS_KEPT = 20


@dataclass(frozen=True)
class ModelEvent:
    """Something that happened to the model.

    Attributes:
        kind: What happened.
        version: To which version.
        reason: Why, in words; empty if it was loaded.
        at: When, UTC.
    """

    kind: Literal["loaded", "refused"]
    version: str
    reason: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class ModelWatcher:
    """Holds the version that answers, and looks for a newer one.

    Requests take `model` once and keep what they took, so that a change fails none of them.

    Args:
        loader: Finds and loads versions.
        every_s: Seconds between two looks.
        retry_refused_s: Seconds until a version that was refused is tried again.
        on_event: Called for each event.
    """

    def __init__(
        self,
        loader: ModelLoader,
        every_s: float,
        retry_refused_s: float,
        on_event: Callable[[ModelEvent], None] = lambda _: None,
    ) -> None:
        self._loader = loader
        self._every_s = every_s
        self._retry_refused_s = retry_refused_s
        self._on_event = on_event
        self._refused_until: tuple[RegisteredVersion | None, float] = (None, 0.0)
        self._task: asyncio.Task[None] | None = None
        self.model: ServedModel | None = None
        self.refused: ModelEvent | None = None
        self.trouble = "The model has not been loaded yet: try again in a moment."
        self.events: deque[ModelEvent] = deque(maxlen=EVENTS_KEPT)

    async def start(self) -> None:
        """Look once, then go on looking in the background."""
        await self._look()
        self._task = asyncio.create_task(self._watch(), name="model-watcher")

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self._look()

    async def _look(self) -> None:
        try:
            await asyncio.to_thread(self._refresh)
        # The registry may fail in any way; what answers goes on answering.
        except Exception as error:
            reason = str(error) if isinstance(error, WineQualityError) else type(error).__name__
            if self.model is None:
                self.trouble = "The model registry cannot be reached: see that it runs."
            logger.warning("The model registry cannot be read", extra={"reason": reason})

    def _refresh(self) -> None:
        found = self._loader.wanted()
        if found is None:
            if self.model is None:
                self.trouble = (
                    f"The registry has no {self._loader.alias} of {self._loader.name} yet: train "
                    "one with 'kedro run'; the service takes it up by itself."
                )
            return
        if self.model is not None and self.model.is_version(found):
            # whoever took back the alias of a broken version has mended it
            self.refused = None
            return
        refused, until = self._refused_until
        if found.is_same_as(refused) and time.monotonic() < until:
            return
        try:
            model = self._loader.load(found)
        except BrokenVersionError as error:
            self._refuse(found, str(error))
            return
        self.model, self.refused, self.trouble = model, None, ""
        self._tell(ModelEvent("loaded", model.version))
        logger.info(
            "Model loaded",
            extra={"version": model.version, "runtime": model.runtime, "verified": model.verified},
        )

    def _refuse(self, found: RegisteredVersion, reason: str) -> None:
        again = found.is_same_as(self._refused_until[0])
        self._refused_until = (found, time.monotonic() + self._retry_refused_s)
        event = ModelEvent("refused", found.version, reason)
        self.refused = event
        if self.model is None:
            self.trouble = f"Version {found.version} of the model is broken: promote another."
        if not again:
            self._tell(event)
        kept = self.model.version if self.model else None
        logger.error("ALERT: a model version was refused", extra={"reason": reason, "kept": kept})

    def _tell(self, event: ModelEvent) -> None:
        self.events.append(event)
        self._on_event(event)
