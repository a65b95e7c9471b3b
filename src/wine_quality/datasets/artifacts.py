"""Files of text that are artifacts of an MLflow run, too, wherever either of them is kept."""

from abc import abstractmethod
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from kedro_datasets.plotly import JSONDataset
from kedro_datasets.text import TextDataset

if TYPE_CHECKING:
    import plotly.graph_objects as go


class _Artifact:
    """What the datasets share.

    Args:
        artifact_path: Folder among the run's artifacts.
        settings: The arguments of the dataset.
    """

    _filepath: PurePosixPath

    def __init__(self, *, artifact_path: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self._artifact = str(PurePosixPath(artifact_path) / self._filepath.name)

    def save(self, data: Any) -> None:
        """Write the file, and log it where an MLflow run is active."""
        import mlflow

        super().save(data)  # type: ignore[misc]
        if mlflow.active_run():
            # not what the file holds by now: another run may have written it
            mlflow.log_text(self._as_text(data), self._artifact)

    @abstractmethod
    def _as_text(self, data: Any) -> str:
        """Give what the file was written with."""


class TextArtifactDataset(_Artifact, TextDataset):
    """A `TextDataset` whose file saving also logs to the active MLflow run."""

    def _as_text(self, data: str) -> str:
        return data


class FigureArtifactDataset(_Artifact, JSONDataset):
    """A Plotly figure whose file saving also logs to the active MLflow run."""

    def _as_text(self, data: "go.Figure") -> str:
        return str(data.to_json(**self._save_args))
