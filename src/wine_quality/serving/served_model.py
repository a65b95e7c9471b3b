"""A model version that answers: ONNX Runtime where the version has it, scikit-learn otherwise."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.database.addresses import without_password
from wine_quality.errors import WineQualityError
from wine_quality.modelling.loading import BrokenVersionError
from wine_quality.modelling.registry import (
    MODEL_DIGEST_TAG,
    ONNX_DIGEST_TAG,
    ONNX_TAG,
    ModelRegistry,
    RegisteredVersion,
)
from wine_quality.modelling.tracking import tracking_store
from wine_quality.serving.settings import ServiceSettings
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PREDICTION, QUALITY_STEP, TYPE, WINE_TYPES

logger = logging.getLogger(__name__)

Runtime = Literal["onnx", "scikit-learn"]
METRIC_TAG_PREFIX = "held_out_"

CHECKED_WINES = 200
"""Held-out wines that a version has to answer as it did when it was registered."""
TOLERANCE = 1e-3 * QUALITY_STEP
"""Quality points by which two runtimes' answers may differ; float32 forests keep to 1e-6."""
DIFFERING_SHARE = 0.01
"""Share of wines that may differ by more: a value on a split's very edge may fall either way."""


class Engine(Protocol):
    """What computes a model's predictions."""

    def __call__(
        self, types: Sequence[str], measurements: NDArray[np.float64], /
    ) -> NDArray[np.float64]:
        """Predict n wines: n types and measurements of shape (n, 11), NaN for what is missing."""


@dataclass(frozen=True)
class ServedModel:
    """A loaded version.

    Attributes:
        name: Name in the registry.
        version: Version in the registry.
        runtime: What computes its predictions.
        runtime_reason: Why not ONNX Runtime; empty if it is.
        verified: Whether the file was compared with the registry's digest; the first versions have
            none.
        metrics: Its scores on the held-out wines.
        registered_at: When it was registered, UTC.
        loaded_at: When this process began to answer with it, UTC.
        reference: Held-out wines with quality and prediction, or None where the version has none.
    """

    name: str
    version: str
    engine: Engine = field(repr=False)
    runtime: Runtime
    runtime_reason: str = ""
    verified: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    registered_at: datetime | None = None
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    reference: pd.DataFrame | None = field(default=None, repr=False, compare=False)

    def is_version(self, found: RegisteredVersion) -> bool:
        """Tell whether this is the version: a model registered anew starts at number 1 again."""
        return (self.name, self.version, self.registered_at) == (
            found.name,
            found.version,
            found.created_at,
        )

    def predict(
        self, types: Sequence[str], measurements: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Predict the quality of wines.

        Args:
            types: n times `red` or `white`.
            measurements: Shape (n, 11), in canonical order; NaN for what is missing.

        Returns:
            Predicted quality, shape (n,).

        Raises:
            BrokenVersionError: If the model does not answer with one finite number a wine.
        """
        predictions = self.engine(types, measurements)
        if predictions.shape != (len(types),) or not np.isfinite(predictions).all():
            raise BrokenVersionError(
                f"The model {self.name} version {self.version} did not answer {len(types)} wines "
                f"with one finite number each (shape {predictions.shape}): promote another version."
            )
        return predictions


class OnnxEngine:
    """A model in ONNX Runtime.

    Args:
        content: The ONNX file; it takes `measurements`, float32 (n, 11), and `type`, text (n, 1),
            and its first output is the predicted quality.

    Raises:
        BrokenVersionError: If ONNX Runtime does not take it, or its inputs are others.
    """

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # for a wine at a time, starting threads costs more than they save
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        # the library has no exception of its own that covers all of its complaints
        except Exception as error:
            raise BrokenVersionError(f"its ONNX file cannot be read ({error})") from error
        inputs = {i.name for i in self._session.get_inputs()}
        if inputs != {"measurements", TYPE}:
            raise BrokenVersionError(f"its ONNX file takes {', '.join(sorted(inputs))}")
        self._output = [self._session.get_outputs()[0].name]

    def __call__(
        self, types: Sequence[str], measurements: NDArray[np.float64], /
    ) -> NDArray[np.float64]:
        """Predict n wines."""
        (answer,) = self._session.run(
            self._output,
            {
                "measurements": measurements.astype(np.float32),
                TYPE: np.array(types, dtype=object).reshape(-1, 1),
            },
        )
        column = np.asarray(answer, dtype=np.float64)
        return column[:, 0] if column.ndim == 2 and column.shape[1] == 1 else column


class SklearnEngine:
    """A model in scikit-learn.

    Args:
        model: Fitted pipeline that takes the twelve inputs.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(
        self, types: Sequence[str], measurements: NDArray[np.float64], /
    ) -> NDArray[np.float64]:
        """Predict n wines."""
        wines = pd.DataFrame(measurements, columns=list(MEASUREMENT_NAMES))
        wines.insert(0, TYPE, list(types))
        return np.asarray(self._model.predict(wines[list(INPUTS)]), dtype=np.float64)


class ModelLoader:
    """Gets versions of one registered model, and refuses those that must not answer.

    Args:
        tracking_uri: MLflow tracking server.
        name: Name of the registered model.
        alias: Whose version is wanted.
        trusted_types: A team's own types that its models may hold.
    """

    def __init__(
        self, tracking_uri: str, name: str, alias: str, trusted_types: Collection[str] = ()
    ) -> None:
        self._tracking_uri = tracking_uri
        self.name = name
        self.alias = alias
        self._trusted_types = trusted_types
        self._is_set_up = False

    @classmethod
    def of(cls, settings: ServiceSettings, alias: str | None = None) -> Self:
        """Make a loader for a service's settings, of the alias that answers or of another."""
        trusted = filter(None, map(str.strip, settings.trusted_types.split(",")))
        return cls(
            settings.tracking_uri,
            settings.registered_model,
            alias or settings.alias,
            frozenset(trusted),
        )

    def checked_address(self) -> str:
        """Give MLflow's address of the wanted version, having loaded its model.

        Raises:
            WineQualityError: There is none, or its files are refused.
        """
        found = self.wanted()
        if found is None:
            raise WineQualityError(
                f"The registry at {without_password(self._tracking_uri)} has no {self.alias} of "
                f"{self.name} yet: train one with 'kedro run'."
            )
        self._registry().checked_model(found)
        return f"models:/{self.name}/{found.version}"

    def wanted(self) -> RegisteredVersion | None:
        """The version that the alias names now; None where there is none.

        Raises:
            Exception: Whatever MLflow says if the registry cannot be reached.
        """
        return self._registry().version(self.alias)

    def load(self, found: RegisteredVersion) -> ServedModel:
        """Load a version, having checked files, digests and answers.

        Raises:
            BrokenVersionError: If it must not answer.
        """
        registry = self._registry()
        try:
            engine, runtime, reason, digest = _engine(registry, found)
            reference = _reference(registry, found.version)
            served = ServedModel(
                name=self.name,
                version=found.version,
                engine=engine,
                runtime=runtime,
                runtime_reason=reason,
                verified=digest in found.tags,
                metrics=_metrics(found.tags),
                registered_at=found.created_at,
                reference=reference,
            )
            _check_answers(served)
        except BrokenVersionError as error:
            raise BrokenVersionError(
                f"Version {found.version} of {self.name} is refused: {error}"
            ) from error
        # a file of a version may be broken in any way, and none of them may stop the service
        except Exception as error:
            raise BrokenVersionError(
                f"Version {found.version} of {self.name} is refused: it cannot be loaded "
                f"({type(error).__name__}: {error})"
            ) from error
        return served

    def _registry(self) -> ModelRegistry:
        import mlflow

        mlflow.set_tracking_uri(self._tracking_uri)
        if self._is_set_up:
            return ModelRegistry(self.name, trusted_types=self._trusted_types)
        # the first in a process makes MLflow's tables where they are missing
        with tracking_store(self._tracking_uri, "WINE_QUALITY_TRACKING_URI"):
            registry = ModelRegistry(self.name, trusted_types=self._trusted_types)
        self._is_set_up = True
        return registry


def _engine(registry: ModelRegistry, found: RegisteredVersion) -> tuple[Engine, Runtime, str, str]:
    """Load what answers: with why it is not ONNX, and the tag that has its file's digest."""
    has_onnx = found.tags.get(ONNX_TAG, "the version was registered without one")
    if has_onnx == "yes":
        return OnnxEngine(registry.onnx(found)), "onnx", "", ONNX_DIGEST_TAG
    engine = SklearnEngine(registry.model(found))
    return engine, "scikit-learn", f"no ONNX: {has_onnx}", MODEL_DIGEST_TAG


def _metrics(tags: Mapping[str, str]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for key, value in tags.items():
        if key.startswith(METRIC_TAG_PREFIX):
            try:
                metrics[key.removeprefix(METRIC_TAG_PREFIX)] = float(value)
            except ValueError:
                # `held_out_wines` is a fingerprint
                continue
    return metrics


def _reference(registry: ModelRegistry, version: str) -> pd.DataFrame | None:
    try:
        return registry.reference(version)
    except WineQualityError as error:
        logger.warning("No reference: the live page cannot judge drift", extra={"why": str(error)})
        return None


def _check_answers(served: ServedModel) -> None:
    """Have a version answer the wines that it was registered with."""
    if served.reference is None or served.reference.empty:
        served.predict(list(WINE_TYPES), np.full((len(WINE_TYPES), len(MEASUREMENT_NAMES)), 1.0))
        return
    wines = served.reference.head(CHECKED_WINES)
    measurements = wines[list(MEASUREMENT_NAMES)].to_numpy(dtype=np.float64, na_value=np.nan)
    answers = served.predict(wines[TYPE].tolist(), measurements)
    differing = np.abs(answers - wines[PREDICTION].to_numpy(dtype=np.float64)) > TOLERANCE
    if differing.mean() > DIFFERING_SHARE:
        raise BrokenVersionError(
            f"it answers {int(differing.sum())} of {len(wines)} held-out wines otherwise than when "
            "it was registered"
        )
