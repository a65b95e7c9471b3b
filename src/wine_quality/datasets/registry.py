"""The model registry as datasets, so that the nodes that train and judge stay pure."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from wine_quality.drift.profiles import Reference
from wine_quality.modelling.registry import (
    CHALLENGER,
    CHAMPION,
    PROFILE_ARTIFACT,
    Champion,
    ChampionChangedError,
    ModelRegistry,
    RegisteredVersion,
    TrainedModel,
)


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
        return ModelRegistry(self._model_name, self._trusted_types)

    def _describe(self) -> dict[str, Any]:
        return {"model_name": self._model_name}


class ModelVersionDataset(_RegistryDataset, AbstractDataset[TrainedModel, RegisteredVersion]):
    """Saving registers a trained model as a new version; loading describes the newest version."""

    def save(self, data: TrainedModel) -> None:
        """Register a trained model in the active MLflow run, with the profile of its reference."""
        profile = json.dumps(Reference.from_wines(data.reference).to_dict(), indent=1)
        files = {**data.files, PROFILE_ARTIFACT: profile}
        self._registry().register(replace(data, files=files))

    def load(self) -> RegisteredVersion:
        """Describe the newest version."""
        newest = self._registry().newest()
        if newest is None:
            raise DatasetError(f"The registry has no version of {self._model_name}.")
        return newest

    def _exists(self) -> bool:
        return self._registry().newest() is not None


class PreviousChampionDataset(
    _RegistryDataset, AbstractDataset[Any, tuple[RegisteredVersion, pd.DataFrame] | None]
):
    """The champion before this run with its reference, or None; load only."""

    def load(self) -> tuple[RegisteredVersion, pd.DataFrame] | None:
        """Describe the champion and load its reference."""
        registry = self._registry()
        champion = registry.version(CHAMPION)
        if champion is None:
            return None
        return champion, registry.reference(champion.version)

    def save(self, data: Any) -> None:
        """Refuse: who was champion is history."""
        raise DatasetError("The previous champion is read only.")


class ChampionDataset(_RegistryDataset, AbstractDataset[dict[str, Any], Champion]):
    """Saving a promotion decision sets the aliases; loading gives the champion's model.

    Args:
        credentials: `url` of the database that locks promotions where the registry is a server.
        settings: The arguments of every dataset of a registered model.
    """

    def __init__(self, *, credentials: dict[str, str] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._lock_database = credentials["url"] if credentials else None

    def _registry(self) -> ModelRegistry:
        return ModelRegistry(self._model_name, self._trusted_types, self._lock_database)

    def save(self, data: dict[str, Any]) -> None:
        """Make the decision's version champion, or else challenger.

        Raises:
            ChampionChangedError: The version was judged against a champion that is none any more;
                it is challenger then.
        """
        registry = self._registry()
        if not data["promoted"]:
            registry.set_alias(CHALLENGER, data["version"])
            return
        try:
            registry.promote(data["version"], instead_of=data["judged_against"])
        except ChampionChangedError:
            registry.set_alias(CHALLENGER, data["version"])
            raise

    def load(self) -> Champion:
        """Load the champion's model."""
        return self._registry().champion()

    def _exists(self) -> bool:
        return self._registry().version(CHAMPION) is not None


class ReferencesDataset(_RegistryDataset, AbstractDataset[Any, Callable[[str], pd.DataFrame]]):
    """The references of all versions, each loaded when it is asked for; load only."""

    def load(self) -> Callable[[str], pd.DataFrame]:
        """Give a function that loads the reference of a version."""
        return self._registry().reference

    def save(self, data: Any) -> None:
        """Refuse: a reference is registered with its model."""
        raise DatasetError("References are read only: they are registered with their models.")
