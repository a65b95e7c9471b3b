"""The MLflow model registry: versions of one registered model and who is champion."""

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.database.locks import Confirm
from wine_quality.errors import WineQualityError
from wine_quality.modelling.loading import (
    SKOPS_FILE,
    BrokenVersionError,
    check_digest,
    check_onnx,
    load_model,
    read_fitted_wines,
    read_reference,
    trusted_in,
)
from wine_quality.modelling.onnx_export import OnnxExport, export
from wine_quality.modelling.registry_lock import promotion_lock
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from sklearn.pipeline import Pipeline as Model

CHAMPION, CHALLENGER = "champion", "challenger"
REFERENCE_ARTIFACT = "reference/held_out_wines.parquet"
PROFILE_ARTIFACT = "reference/profile.json"
FITTED_ARTIFACT = "reference/fitted_wines.npy"
ONNX_ARTIFACT = "onnx/model.onnx"
ONNX_TAG, ONNX_PARITY_TAG = "onnx", "onnx_parity"
ONNX_DIGEST_TAG, MODEL_DIGEST_TAG = "onnx_sha256", "model_sha256"
ENVIRONMENT_TAG = "environment"
FITTED_TAG = "fitted_wines"
"""Tag with the number of distinct wines a version was fitted on; older versions have none."""
RUN_TAGS = (ENVIRONMENT_TAG, "git_revision")
"""Tags of the run that its version bears as well."""
FORMER_CHAMPIONS_TAG = "former_champions"
"""Tag of the registered model: the champions before this one, the newest last."""
REMEMBERED_CHAMPIONS = 50
REVIEW_TAG = "promotion_review"
"""Tag of a version: how far the review of its promotion is, see `review.review_promotion`."""
UNDOING, UNDONE = "undoing", "undone"
"""Its values from when a promotion is found to be a mistake, and when all was done about it."""

MODEL_DESCRIPTION = (
    "Predicts the quality of a wine from its type and eleven measurements. The version with the "
    f"alias `{CHAMPION}` answers; `{CHALLENGER}` is the newest that was not promoted. Each version "
    "says in its tags what it was built with and why it was promoted or not."
)


@dataclass(frozen=True)
class TrainedModel:
    """A fitted model with what must travel with it into the registry.

    Attributes:
        model: Fitted on training wines; takes the twelve inputs.
        reference: Held-out wines with `quality` and the model's `prediction`, which drift and decay
            are later judged against.
        tags: What the version says of itself: candidate, data fingerprints, scores.
        files: Texts that are kept with the version, by artifact path: its card, its profile.
        fitted: `wine_hashes` of the wines that the model was fitted on, by which later versions
            find wines that neither was fitted on. None: the version does not say.
    """

    model: "Model"
    reference: pd.DataFrame
    tags: dict[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    fitted: NDArray[np.uint64] | None = None


@dataclass(frozen=True)
class RegisteredVersion:
    """One version in the registry.

    Attributes:
        name: Name of the registered model.
        version: Its number. A model that was deleted and registered again starts at 1.
        run_id: The run that registered it.
        created_at: When it was registered, UTC, to the millisecond.
        tags: What it says of itself.
    """

    name: str
    version: str
    run_id: str
    created_at: datetime
    tags: dict[str, str]

    def is_same_as(self, other: "RegisteredVersion | None") -> bool:
        """Tell whether this is the other: a number alone does not tell, see `version`."""
        return other is not None and (self.name, self.version, self.created_at) == (
            other.name,
            other.version,
            other.created_at,
        )


@dataclass(frozen=True)
class Champion:
    """The champion, loaded."""

    version: RegisteredVersion
    model: "Model"


class ChampionChangedError(WineQualityError):
    """Somebody else changed the champion in the meantime."""


class ModelRegistry:
    """Versions of one registered model in the tracking server that MLflow is set to.

    Args:
        name: Name of the registered model.
        trusted_types: A team's own types that its models may hold, beside those of the candidates
            that ship.
        lock_database: Address of the project's own database, where promotions are locked if the
            registry is a server; see `promotion_lock`.
    """

    def __init__(
        self,
        name: str,
        *,
        trusted_types: Collection[str] = (),
        lock_database: str | None = None,
    ) -> None:
        from mlflow import MlflowClient

        self.name = name
        self._trusted_types = frozenset(trusted_types)
        self._lock_database = lock_database
        self._client = MlflowClient()

    def register(self, trained: TrainedModel) -> RegisteredVersion:
        """Log a model with what travels with it to the active MLflow run; register a new version.

        The model is saved by skops, with signature, input example, exact requirements and the list
        of its types that skops does not trust by itself, for MLflow's own server; beside it, where
        it answers alike, as ONNX. The version's tags are those of the model, those of `RUN_TAGS`
        that the run has, and `onnx` (`yes`, or why not), `onnx_parity` (`passed`, `failed`, or
        `none` without a conversion), `onnx_max_difference` in points of quality, and the digests
        `onnx_sha256` and `model_sha256` of the two files.

        Raises:
            WineQualityError: No MLflow run is active, or the model could not be loaded again.
        """
        import mlflow

        run = mlflow.active_run()
        if run is None:
            raise WineQualityError(
                "No MLflow run is active, so the model cannot be registered: "
                "do not list this pipeline under tracking.disable_tracking in mlflow.yml."
            )
        info = self._log_model(trained)
        converted = export(trained.model, trained.reference)
        _log_files(trained, converted)
        version = str(info.registered_model_version)
        # what the active run holds in memory are its tags as of its start
        of_run = self._client.get_run(run.info.run_id).data.tags
        # those of the model come last: a version that has the last of them has all
        tags = (
            {key: of_run[key] for key in RUN_TAGS if key in of_run}
            | _onnx_tags(converted)
            | ({} if trained.fitted is None else {FITTED_TAG: str(len(np.unique(trained.fitted)))})
            | {MODEL_DIGEST_TAG: _digest_of_model(f"models:/{self.name}/{version}")}
            | trained.tags
        )
        for key, value in tags.items():
            self._client.set_model_version_tag(self.name, version, key, value)
        self._client.update_model_version(self.name, version, _description(tags, trained))
        # a team's own words stay
        if not self._client.get_registered_model(self.name).description:
            self._client.update_registered_model(self.name, MODEL_DESCRIPTION)
        found = self._client.get_model_version(self.name, version)
        return _described(self.name, found)

    def _log_model(self, trained: TrainedModel) -> Any:
        import mlflow
        from mlflow.models import infer_signature

        # complete wines make the better example; where a measurement is never taken there are none
        complete = trained.reference[list(INPUTS)].dropna()
        example = (trained.reference[list(INPUTS)] if complete.empty else complete).head(3)
        # floats may be missing in MLflow's signature, whole numbers may not
        inputs = example.astype(dict.fromkeys(MEASUREMENT_NAMES, float))
        return mlflow.sklearn.log_model(
            trained.model,
            name="model",
            registered_model_name=self.name,
            signature=infer_signature(inputs, trained.model.predict(inputs)),
            input_example=inputs,
            pip_requirements=_requirements(trained.model),
            skops_trusted_types=trusted_in(trained.model, self._trusted_types),
        )

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
        return _described(self.name, found)

    def newest(self) -> RegisteredVersion | None:
        """Describe the newest version; None where nothing is registered."""
        numbers = [int(found.version) for found in self._versions()]
        return self.version(str(max(numbers))) if numbers else None

    def champion(self, decided: RegisteredVersion | None = None) -> Champion:
        """Load the champion.

        Args:
            decided: The champion that a run ended with, if another may have followed it by now.

        Raises:
            WineQualityError: No version is champion yet, or it must not be loaded.
        """
        found = decided or self.version(CHAMPION)
        if found is None:
            newest = self.newest()
            raise WineQualityError(
                f"The registry has no champion of {self.name} yet: "
                + (
                    f"its version {newest.version} was not promoted, for the reason that its "
                    "training gave; correct that and train again with "
                    "'kedro run --pipeline training'."
                    if newest
                    else "train one first with 'kedro run --pipeline training' (or all of it: "
                    "'kedro run')."
                )
            )
        return Champion(found, self.checked_model(found))

    def checked_model(self, found: RegisteredVersion) -> "Model":
        """Load a version's model; where it is refused, say of which version."""
        try:
            return self.model(found)
        except BrokenVersionError as error:
            raise BrokenVersionError(
                f"Version {found.version} of {self.name} is refused: {error}."
            ) from error

    def model(self, found: RegisteredVersion) -> "Model":
        """Load a version's model.

        Raises:
            BrokenVersionError: Its files are not there, or are refused; nothing of them has run.
        """
        import mlflow
        from mlflow.exceptions import MlflowException

        with TemporaryDirectory(prefix="wine-quality-") as folder:
            uri = f"models:/{self.name}/{found.version}"
            try:
                path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
            except (MlflowException, OSError) as error:
                raise BrokenVersionError(
                    f"its files cannot be fetched ({error}): put its artifacts back, or promote "
                    "another version"
                ) from error
            return load_model(path, self._trusted_types, found.tags.get(MODEL_DIGEST_TAG))

    def onnx(self, found: RegisteredVersion) -> bytes:
        """Read a version's ONNX file.

        Raises:
            BrokenVersionError: The file is refused.
        """
        import mlflow

        with TemporaryDirectory(prefix="wine-quality-") as folder:
            uri = f"runs:/{found.run_id}/{ONNX_ARTIFACT}"
            path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
            content = path.read_bytes()
        check_digest(content, found.tags.get(ONNX_DIGEST_TAG), path.name)
        check_onnx(content)
        return content

    def reference(self, version: str) -> pd.DataFrame:
        """Load the held-out wines with predictions that a version was registered with.

        Raises:
            WineQualityError: The version is unknown, or has no reference that can be read.
        """
        with TemporaryDirectory() as folder:
            path = self._download(version, REFERENCE_ARTIFACT, folder)
            try:
                return read_reference(path)
            except BrokenVersionError as error:
                raise WineQualityError(
                    f"Version {version} of {self.name} has no usable reference: {error}."
                ) from error

    def fitted_wines(self, found: RegisteredVersion) -> NDArray[np.uint64] | None:
        """Load `wine_hashes` of the distinct wines that a version was fitted on.

        Returns:
            Shape (n,); None where the version does not say, as those of earlier editions.

        Raises:
            WineQualityError: They cannot be read.
        """
        if FITTED_TAG not in found.tags:
            return None
        with TemporaryDirectory() as folder:
            return read_fitted_wines(self._download(found.version, FITTED_ARTIFACT, folder))

    def reference_profile(self, version: str) -> dict[str, Any]:
        """Load the profile of a version's reference, as `drift.reference.Reference` writes it.

        Raises:
            WineQualityError: The version is unknown, or has no profile that can be read.
        """
        with TemporaryDirectory() as folder:
            path = self._download(version, PROFILE_ARTIFACT, folder)
            try:
                profile: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
            except (TypeError, ValueError) as error:
                raise WineQualityError(
                    f"The profile of version {version} of {self.name} cannot be read ({error})."
                ) from error
            return profile

    def _download(self, version: str, artifact: str, folder: str) -> Path:
        import mlflow
        from mlflow.exceptions import MlflowException

        found = self.version(version)
        problem = f"Version {version} of {self.name} has no reference in the registry"
        if found is None:
            raise WineQualityError(f"{problem}: it is not registered there.")
        try:
            uri = f"runs:/{found.run_id}/{artifact}"
            return Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
        except (MlflowException, OSError) as error:
            raise WineQualityError(f"{problem}: {error}") from error

    def set_alias(self, alias: str, version: str) -> None:
        """Point an alias to a version, and away from any other."""
        self._client.set_registered_model_alias(self.name, alias, version)

    def promote(self, version: str, instead_of: RegisteredVersion | None) -> None:
        """Make a version champion, provided that the champion is still the same.

        Of two runs that judged their versions against the same champion, the second to come here
        is refused. The champion that gives way is remembered for `roll_back`.

        Args:
            version: The version's number.
            instead_of: The champion that it was judged against; None if there was none.

        Raises:
            ChampionChangedError: The champion is another one by now.
            WineQualityError: The version is unknown, or its ONNX model does not answer as it does.
        """
        found = self._known(version)
        if found.tags.get(ONNX_PARITY_TAG) == "failed":
            raise WineQualityError(
                f"Version {version} of {self.name} cannot become champion: {found.tags[ONNX_TAG]}. "
                "Train another."
            )
        with self._lock() as confirm_lock:
            present = self._champion_still(version, instead_of)
            if present and present.version == version:
                return
            former = [*self.former_champions(), *([present.version] if present else [])]
            confirm_lock()
            self._appoint(version, former)

    def roll_back(self) -> RegisteredVersion:
        """Make the champion before this one champion again; once more, the one before that.

        Returns:
            The champion now.

        Raises:
            WineQualityError: There is no champion before this one.
        """
        with self._lock() as confirm_lock:
            former = list(self.former_champions())
            if not former:
                raise WineQualityError(
                    f"{self.name} had no champion before the present one: choose a version with "
                    "'kedro champion promote VERSION'."
                )
            found = self._known(former.pop())
            confirm_lock()
            self._appoint(found.version, former)
        return found

    def take_back(self, champion: RegisteredVersion, former: RegisteredVersion) -> None:
        """Undo a promotion, provided that champion and former champion are still the same.

        The version's tag `REVIEW_TAG` is `UNDOING` from then on.

        Args:
            champion: The champion that is to give way.
            former: The champion before it, which it was compared with.

        Raises:
            ChampionChangedError: One of the two is another one by now.
        """
        with self._lock() as confirm_lock:
            self._champion_still(former.version, champion)
            numbers = self.former_champions()
            if numbers[-1:] != (former.version,):
                raise ChampionChangedError(
                    f"Version {former.version} of {self.name} was champion before version "
                    f"{champion.version}, but meanwhile the champions have changed: the promotion "
                    "is not undone."
                )
            confirm_lock()
            # first, so that it can go on where it is interrupted
            self.note_review(champion, UNDOING)
            self._appoint(former.version, list(numbers[:-1]))

    def _champion_still(
        self, version: str, expected: RegisteredVersion | None
    ) -> RegisteredVersion | None:
        """Look up the champion, which has to be the one that a version was judged against."""
        present = self.version(CHAMPION)
        if not (present.is_same_as(expected) if present else expected is None):
            raise ChampionChangedError(
                f"Version {version} of {self.name} was judged against {_in_words(expected)}, but "
                f"meanwhile {_in_words(present, expected)} has become champion: train again, or "
                f"promote it by hand with 'kedro champion promote {version}'."
            )
        return present

    def note_review(self, version: RegisteredVersion, outcome: str) -> None:
        """Note how far the review of a promotion is; see `REVIEW_TAG`."""
        self._client.set_model_version_tag(self.name, version.version, REVIEW_TAG, outcome)

    def tagged(self, key: str, *values: str) -> list[RegisteredVersion]:
        """List the versions of which a tag has one of these values."""
        return [found for found in self._versions() if found.tags.get(key) in values]

    def _versions(self) -> list[RegisteredVersion]:
        versions = self._client.search_model_versions(f"name = '{self.name}'")
        return [_described(self.name, found) for found in versions]

    def former_champions(self) -> tuple[str, ...]:
        """List the versions that were champion before this one, the newest last."""
        from mlflow.exceptions import MlflowException

        try:
            tags = self._client.get_registered_model(self.name).tags
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return ()
            raise
        return tuple(filter(None, tags.get(FORMER_CHAMPIONS_TAG, "").split(",")))

    def _appoint(self, version: str, former: list[str]) -> None:
        # first the memory: a process that dies in between forgets nobody
        remembered = ",".join(former[-REMEMBERED_CHAMPIONS:])
        self._client.set_registered_model_tag(self.name, FORMER_CHAMPIONS_TAG, remembered)
        self.set_alias(CHAMPION, version)
        challenger = self.version(CHALLENGER)
        if challenger is not None and challenger.version == version:
            self._client.delete_registered_model_alias(self.name, CHALLENGER)

    def _known(self, version: str) -> RegisteredVersion:
        found = self.version(version) if version.isdigit() else None
        if found is None:
            newest = max((int(one.version) for one in self._versions()), default=None)
            raise WineQualityError(
                f"{self.name} has no version {version}: "
                + (f"the newest is {newest}." if newest else "it has none yet.")
            )
        return found

    def check_lock(self) -> None:
        """See that promotions can be locked.

        Raises:
            WineQualityError: They cannot: the database of the lock cannot be used.
        """
        with self._lock():
            pass

    def _lock(self) -> AbstractContextManager[Confirm]:
        return promotion_lock(str(self._client._registry_uri), self.name, self._lock_database)


def _described(name: str, found: "ModelVersion") -> RegisteredVersion:
    return RegisteredVersion(
        name=name,
        version=str(found.version),
        run_id=str(found.run_id),
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        tags=dict(found.tags or {}),
    )


def _in_words(version: RegisteredVersion | None, other: RegisteredVersion | None = None) -> str:
    if version is None:
        return "no champion"
    another = "another " if other and other.version == version.version else ""
    return f"{another}version {version.version}"


def _description(tags: Mapping[str, str], trained: TrainedModel) -> str:
    """Say in a few words what a version is, for who looks at the registry."""
    candidate = tags.get("candidate", type(trained.model).__name__).replace("_", " ")
    settings = f" ({tags['settings']})" if "settings" in tags else ""
    words = f"{candidate}{settings}"
    if FITTED_TAG in tags:
        words += f", fitted on {int(tags[FITTED_TAG]):,} different wines"
    if ENVIRONMENT_TAG in tags:
        words += f" in the environment {tags[ENVIRONMENT_TAG]}"
    scores = (("RMSE", "held_out_rmse"), ("MAE", "held_out_mae"), ("R²", "held_out_r2"))
    known = ", ".join(f"{name} {tags[tag]}" for name, tag in scores if tag in tags)
    judged = f"{known} on {len(trained.reference):,} held-out wines. " if known else ""
    return f"{words}. {judged}Its card, `model_card.html`, is among the artifacts of its run."


def _log_files(trained: TrainedModel, converted: OnnxExport) -> None:
    """Log what travels with a model to the active run."""
    import mlflow

    with TemporaryDirectory() as folder:
        path = Path(folder) / REFERENCE_ARTIFACT
        path.parent.mkdir(parents=True)
        trained.reference.to_parquet(path, index=False)
        if trained.fitted is not None:
            np.save(Path(folder) / FITTED_ARTIFACT, np.unique(trained.fitted), allow_pickle=False)
        if converted.content is not None:
            path = Path(folder) / ONNX_ARTIFACT
            path.parent.mkdir(parents=True)
            path.write_bytes(converted.content)
        for artifact, text in trained.files.items():
            path = Path(folder) / artifact
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        mlflow.log_artifacts(folder)


def _onnx_tags(converted: OnnxExport) -> dict[str, str]:
    tags = {ONNX_PARITY_TAG: converted.parity}
    if converted.max_difference is not None:
        tags["onnx_max_difference"] = f"{converted.max_difference:.3g}"
    if converted.content is None:
        return tags | {ONNX_TAG: converted.reason}
    digest = hashlib.sha256(converted.content).hexdigest()
    return tags | {ONNX_TAG: "yes", ONNX_DIGEST_TAG: digest}


def _digest_of_model(uri: str) -> str:
    """Digest the file of a model as it was stored."""
    import mlflow

    with TemporaryDirectory() as folder:
        stored = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
        return hashlib.sha256((stored / SKOPS_FILE).read_bytes()).hexdigest()


def _requirements(model: Any) -> list[str]:
    """Pin what the model needs to be loaded; asking MLflow to infer it takes seconds."""
    from importlib.metadata import version

    packages = ["scikit-learn", "skops", "pandas", "numpy"]
    members = getattr(model[-1], "estimators_", [model[-1]])
    if any(type(member).__module__.startswith("xgboost") for member in [model[-1], *members]):
        packages.append("xgboost")
    return [f"{package}=={version(package)}" for package in packages]
