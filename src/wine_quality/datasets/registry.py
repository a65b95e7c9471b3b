"""The model registry as datasets, so that the nodes that train and judge stay pure."""

import logging
from collections.abc import Sequence
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from wine_quality.errors import WineQualityError
from wine_quality.modelling.contenders import Contender, find_contender
from wine_quality.modelling.loading import BrokenVersionError
from wine_quality.modelling.promotion import Settlement
from wine_quality.modelling.registry import (
    CHAMPION,
    Champion,
    ModelRegistry,
    RegisteredVersion,
    TrainedModel,
)

logger = logging.getLogger(__name__)


class _RegistryDataset:
    """What the datasets of one registered model share.

    Args:
        model_name: Name of the registered model.
        trusted_types: A team's own types that its models may hold.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        *,
        model_name: str,
        trusted_types: Sequence[str] = (),
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._model_name = model_name
        self._trusted_types = trusted_types
        self.metadata = metadata

    def _registry(self) -> ModelRegistry:
        return ModelRegistry(self._model_name, trusted_types=self._trusted_types)

    def _describe(self) -> dict[str, Any]:
        return {"model_name": self._model_name}


class ModelVersionDataset(_RegistryDataset, AbstractDataset[TrainedModel, RegisteredVersion]):
    """Saving registers a trained model as a new version; loading describes that very version.

    A version is known to the run that registered it. The newest one in the registry may be another
    run's, so nothing is loaded that was not saved.
    """

    _EPHEMERAL = True
    _registered: RegisteredVersion | None = None

    def save(self, data: TrainedModel) -> None:
        """Register a trained model in the active MLflow run."""
        self._registered = self._registry().register(data)

    def load(self) -> RegisteredVersion:
        """Describe the version that this run registered."""
        if self._registered is None:
            raise DatasetError(f"This run has registered no version of {self._model_name}.")
        return self._registered

    def _exists(self) -> bool:
        return self._registered is not None


class ModelRegistryDataset(_RegistryDataset, AbstractDataset[Any, ModelRegistry]):
    """The registry itself, for the node that changes its aliases; load only.

    Args:
        credentials: `url` of the database that locks promotions where the registry is a server.
        settings: The arguments of every dataset of a registered model.
    """

    def __init__(self, *, credentials: dict[str, str] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._lock_database = credentials["url"] if credentials else None

    def _registry(self) -> ModelRegistry:
        return ModelRegistry(
            self._model_name,
            trusted_types=self._trusted_types,
            lock_database=self._lock_database,
        )

    def load(self) -> ModelRegistry:
        """Return the registry."""
        return self._registry()

    def save(self, data: Any) -> None:
        """Refuse: what changes the registry does so through the registry."""
        raise DatasetError("The model registry is read only.")

    def check_before_run(self) -> None:
        """See that a promotion can be locked; warn where the champion cannot be compared with.

        Raises:
            WineQualityError: The database of the lock cannot be used.
        """
        registry = self._registry()
        registry.check_lock()
        champion = find_contender(registry)
        obstacle = _obstacle(registry, champion) if champion else None
        if champion and obstacle:
            logger.warning(
                "Version %s, the champion of %s, %s, until 'kedro champion promote VERSION' "
                "promotes it",
                *(champion.version.version, self._model_name, obstacle),
            )


def _obstacle(registry: ModelRegistry, champion: Contender) -> str | None:
    """What keeps new versions from being compared with the champion."""
    challenger = "the new version will be challenger"
    if champion.reference is None:
        return f"has no reference to compare with ({champion.problem}): {challenger}"
    try:
        registry.checked_model(champion.version)
    except BrokenVersionError as error:
        said = str(error).rstrip(".")
        return (
            f"does not answer ({said}): where there are held-out wines that it was not judged on, "
            f"{challenger}"
        )
    return None


class ChampionDataset(_RegistryDataset, AbstractDataset[Settlement, Champion]):
    """The champion: of a run that has decided about it, the one that it ended with."""

    _settled: RegisteredVersion | None = None

    def save(self, data: Settlement) -> None:
        """Keep which version is champion after this run's decision."""
        self._settled = data.champion

    def load(self) -> Champion:
        """Load the champion's model."""
        return self._registry().champion(self._settled)

    def _exists(self) -> bool:
        return self._registry().version(CHAMPION) is not None


class References:
    """What the versions of a model were registered with.

    Args:
        registry: Holds them.
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    def key(self, version: str) -> str:
        """Identify a version for good: numbers begin again where a model is deleted.

        Raises:
            WineQualityError: The version is unknown.
        """
        found = self._registry.version(version)
        if found is None:
            raise WineQualityError(
                f"Version {version} of {self._registry.name} is not in the registry (deleted, or "
                "never registered there), so its traffic has nothing to be compared with."
            )
        return f"{found.name}/{found.version}/{found.run_id}"

    def profile(self, version: str) -> dict[str, Any] | None:
        """The registered reference; None where the version has none of the present form."""
        try:
            profile = self._registry.reference_profile(version)
        except WineQualityError:
            # its wines may be there all the same
            return None
        return profile if "format" in profile else None

    def wines(self, version: str) -> pd.DataFrame:
        """The held-out wines with the version's predictions.

        Raises:
            WineQualityError: The version is unknown, or has none.
        """
        return self._registry.reference(version)


class ReferencesDataset(_RegistryDataset, AbstractDataset[Any, References]):
    """The references of all versions, each loaded when it is asked for; load only."""

    def load(self) -> References:
        """Give what loads the reference of a version."""
        return References(self._registry())

    def save(self, data: Any) -> None:
        """Refuse: a reference is registered with its model."""
        raise DatasetError("References are read only: they are registered with their models.")
