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
        kind: What happened; a version is withdrawn when the alias names it no longer: one that was
            refused, or one that answered only as long as it was named.
        version: To which version.
        reason: Why, in words; empty unless it was refused.
        at: When, UTC.
    """

    kind: Literal["loaded", "refused", "withdrawn"]
    version: str
    reason: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class ModelWatcher:
    """Holds the version that an alias names, and looks for a newer one.

    Requests take `model` once and keep what they took, so that a change fails none of them.

    Args:
        loader: Finds and loads versions.
        every_s: Seconds between two looks.
        retry_refused_s: Seconds until a version that was refused is tried again.
        on_event: Called for each event.
        keeps_former: Whether a version goes on answering though the alias names none any more, or
            one that is refused.
    """

    def __init__(
        self,
        loader: ModelLoader,
        every_s: float,
        retry_refused_s: float,
        on_event: Callable[[ModelEvent], None] = lambda _: None,
        *,
        keeps_former: bool = True,
    ) -> None:
        self._loader = loader
        self._every_s = every_s
        self._retry_refused_s = retry_refused_s
        self._on_event = on_event
        self._keeps_former = keeps_former
        self._refused_until: tuple[RegisteredVersion | None, float] = (None, 0.0)
        self._task: asyncio.Task[None] | None = None
        self._unreachable = ""
        self.alias = loader.alias
        self.model: ServedModel | None = None
        self.refused: ModelEvent | None = None
        self.trouble = "The model has not been loaded yet: try again in a moment."
        self.events: deque[ModelEvent] = deque(maxlen=EVENTS_KEPT)

    async def start(self) -> None:
        """Look once, then go on looking in the background."""
        await self._look()
        self._task = asyncio.create_task(self._watch(), name=f"{self.alias}-watcher")

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
        unreachable = ""
        try:
            await asyncio.to_thread(self._refresh)
        # The registry may fail in any way; what answers goes on answering.
        except Exception as error:
            unreachable = (
                str(error) if isinstance(error, WineQualityError) else type(error).__name__
            )
            if self.model is None:
                self.trouble = "The model registry cannot be reached: see that it runs."
            if unreachable != self._unreachable:
                logger.warning(
                    "The model registry cannot be read",
                    extra={"reason": unreachable, "alias": self.alias},
                )
        self._unreachable = unreachable

    def _refresh(self) -> None:
        found = self._loader.wanted()
        if self.refused and (found is None or found.version != self.refused.version):
            # a broken version that lost the alias is nobody's trouble any more
            self._tell(ModelEvent("withdrawn", self.refused.version))
            self.refused, self._refused_until = None, (None, 0.0)
        if found is None:
            self._find_none()
            return
        if self.model is not None and self.model.is_version(found):
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
            extra={
                "version": model.version,
                "alias": self.alias,
                "runtime": model.runtime,
                "verified": model.verified,
            },
        )

    def _find_none(self) -> None:
        if not self._keeps_former:
            self._withdraw()
        if self.model is None:
            trouble = (
                f"The registry has no {self.alias} of {self._loader.name} yet: train one with "
                "'kedro run'; the service takes it up by itself."
            )
            if trouble != self.trouble:
                logger.warning("No model", extra={"alias": self.alias, "reason": trouble})
            self.trouble = trouble

    def _withdraw(self) -> None:
        former, self.model = self.model, None
        if former is not None:
            self._tell(ModelEvent("withdrawn", former.version))

    def _refuse(self, found: RegisteredVersion, reason: str) -> None:
        again = found.is_same_as(self._refused_until[0])
        self._refused_until = (found, time.monotonic() + self._retry_refused_s)
        if not self._keeps_former:
            self._withdraw()
        event = ModelEvent("refused", found.version, reason)
        self.refused = event
        if self.model is None:
            self.trouble = (
                f"Version {found.version} of the model is broken: give another the alias "
                f"{self.alias}."
            )
        if not again:
            self._tell(event)
            kept = self.model.version if self.model else None
            logger.error(
                "ALERT: a model version was refused",
                extra={"alias": self.alias, "reason": reason, "kept": kept},
            )

    def _tell(self, event: ModelEvent) -> None:
        self.events.append(event)
        self._on_event(event)
