"""The MLflow model registry: versions of one registered model and who is champion."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd

from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from sklearn.pipeline import Pipeline as Model

CHAMPION, CHALLENGER = "champion", "challenger"
REFERENCE_ARTIFACT = "reference/held_out_wines.parquet"


@dataclass(frozen=True)
class TrainedModel:
    """A fitted model with what must travel with it into the registry.

    Attributes:
        model: Fitted on training wines; takes the twelve inputs.
        reference: Held-out wines with `quality` and the model's `prediction`, which drift and decay
            are later judged against.
        tags: What the version says of itself: candidate, data fingerprints, scores.
    """

    model: "Model"
    reference: pd.DataFrame
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RegisteredVersion:
    """One version in the registry."""

    name: str
    version: str
    run_id: str
    tags: dict[str, str]


@dataclass(frozen=True)
class Champion:
    """The champion, loaded."""

    version: RegisteredVersion
    model: "Model"


class ModelRegistry:
    """Versions of one registered model in the tracking server that MLflow is set to.

    Args:
        name: Name of the registered model.
    """

    def __init__(self, name: str) -> None:
        from mlflow import MlflowClient

        self.name = name
        self._client = MlflowClient()

    def register(self, trained: TrainedModel) -> RegisteredVersion:
        """Log a model and its reference to the active MLflow run and register a new version.

        The model is saved by skops, whose files run no code when they are loaded, with signature,
        input example, exact requirements and the list of types that loading has to trust.
        """
        import mlflow
        from mlflow.models import infer_signature

        # complete wines make the better example; where a measurement is never taken there are none
        complete = trained.reference[list(INPUTS)].dropna()
        example = (trained.reference[list(INPUTS)] if complete.empty else complete).head(3)
        run = mlflow.active_run()
        if run is None:
            raise WineQualityError(
                "No MLflow run is active, so the model cannot be registered: "
                "do not list this pipeline under tracking.disable_tracking in mlflow.yml."
            )
        # floats may be missing in MLflow's signature, whole numbers may not
        inputs = example.astype(dict.fromkeys(MEASUREMENT_NAMES, float))
        info = mlflow.sklearn.log_model(
            trained.model,
            name="model",
            registered_model_name=self.name,
            signature=infer_signature(inputs, trained.model.predict(inputs)),
            input_example=inputs,
            pip_requirements=_requirements(trained.model),
            skops_trusted_types=_trusted_types(trained.model),
        )
        with TemporaryDirectory() as folder:
            path = Path(folder) / Path(REFERENCE_ARTIFACT).name
            trained.reference.to_parquet(path, index=False)
            mlflow.log_artifact(str(path), artifact_path=str(Path(REFERENCE_ARTIFACT).parent))
        version = str(info.registered_model_version)
        for key, value in trained.tags.items():
            self._client.set_model_version_tag(self.name, version, key, value)
        return RegisteredVersion(self.name, version, run.info.run_id, dict(trained.tags))

    def version(self, alias_or_number: str) -> RegisteredVersion | None:
        """Look up a version by number or alias; None where there is none."""
        from mlflow.exceptions import MlflowException

        try:
            found: ModelVersion = (
                self._client.get_model_version(self.name, alias_or_number)
                if alias_or_number.isdigit()
                else self._client.get_model_version_by_alias(self.name, alias_or_number)
            )
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return RegisteredVersion(
            self.name, str(found.version), str(found.run_id), dict(found.tags or {})
        )

    def newest(self) -> RegisteredVersion | None:
        """Describe the newest version; None where nothing is registered."""
        versions = self._client.search_model_versions(f"name = '{self.name}'")
        numbers = [int(found.version) for found in versions]
        return self.version(str(max(numbers))) if numbers else None

    def champion(self) -> Champion:
        """Load the champion.

        Raises:
            WineQualityError: No version is champion yet.
        """
        import mlflow

        found = self.version(CHAMPION)
        if found is None:
            raise WineQualityError(
                f"The registry has no champion of {self.name} yet: "
                "train one first with 'kedro run --pipeline training' (or all of it: 'kedro run')."
            )
        uri = f"models:/{self.name}/{found.version}"
        return Champion(found, mlflow.sklearn.load_model(uri))

    def reference(self, version: str) -> pd.DataFrame:
        """Load the held-out wines with predictions that a version was registered with.

        Raises:
            WineQualityError: The version is unknown, or has no reference.
        """
        import mlflow
        from mlflow.exceptions import MlflowException

        found = self.version(version)
        problem = f"Version {version} of {self.name} has no reference in the registry"
        if found is None:
            raise WineQualityError(f"{problem}: it is not registered there.")
        try:
            with TemporaryDirectory() as folder:
                uri = f"runs:/{found.run_id}/{REFERENCE_ARTIFACT}"
                path = mlflow.artifacts.download_artifacts(uri, dst_path=folder)
                return pd.read_parquet(path)
        except (MlflowException, OSError) as error:
            raise WineQualityError(f"{problem}: {error}") from error

    def set_alias(self, alias: str, version: str) -> None:
        """Point an alias to a version, and away from any other."""
        self._client.set_registered_model_alias(self.name, alias, version)


def _requirements(model: Any) -> list[str]:
    """Pin what the model needs to be loaded; asking MLflow to infer it takes seconds."""
    from importlib.metadata import version

    packages = ["scikit-learn", "skops", "pandas", "numpy"]
    if type(model[-1]).__module__.startswith("xgboost"):
        packages.append("xgboost")
    return [f"{package}=={version(package)}" for package in packages]


def _trusted_types(model: Any) -> list[str]:
    """List the types in a model that skops does not trust by itself.

    The model was fitted a moment ago in this process, so its types are ours to trust; the list goes
    into the version, where loading refuses any other.
    """
    import skops.io

    trusted: list[str] = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    return trusted
