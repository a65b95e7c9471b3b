"""Files of text that are artifacts of an MLflow run, too, wherever either of them is kept."""

from pathlib import PurePosixPath
from typing import Any

from kedro_datasets.plotly import JSONDataset
from kedro_datasets.text import TextDataset


class _Artifact:
    """What the datasets share.

    Args:
        artifact_path: Folder among the run's artifacts.
        settings: The arguments of the dataset.
    """

    _fs: Any
    _filepath: PurePosixPath

    def __init__(self, *, artifact_path: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self._artifact = str(PurePosixPath(artifact_path) / self._filepath.name)

    def save(self, data: Any) -> None:
        """Write the file, and log it where an MLflow run is active."""
        import mlflow

        super().save(data)  # type: ignore[misc]
        if mlflow.active_run():
            mlflow.log_text(self._fs.cat_file(str(self._filepath)).decode("utf-8"), self._artifact)


class TextArtifactDataset(_Artifact, TextDataset):
    """A `TextDataset` whose file saving also logs to the active MLflow run."""


class FigureArtifactDataset(_Artifact, JSONDataset):
    """A Plotly figure whose file saving also logs to the active MLflow run."""
