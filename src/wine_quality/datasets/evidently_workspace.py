"""Evidently's reports in a workspace that its own pages show."""

from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from wine_quality.drift.evidently_workspace import ReportWorkspace


class EvidentlyWorkspaceDataset(AbstractDataset[NoReturn, ReportWorkspace]):
    """One project of an Evidently workspace: loading gives what reads and writes its reports.

    Args:
        folder: The workspace, a path or an address.
        project: Name of the project.
        pages: Folder of the pages that the last run drew, likewise.
        metadata: For kedro-viz.
    """

    optional = True
    """Nothing has to write this before it can be read."""

    def __init__(
        self, *, folder: str, project: str, pages: str, metadata: dict[str, Any] | None = None
    ) -> None:
        self._workspace = ReportWorkspace(folder, project, pages)
        self.metadata = metadata

    def load(self) -> ReportWorkspace:
        """Return the workspace; its folder is made with its first report."""
        return self._workspace

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: reports are added through the workspace."""
        raise DatasetError("The EvidentlyWorkspaceDataset is read only.")

    def _exists(self) -> bool:
        return self._workspace.exists()

    def _describe(self) -> dict[str, Any]:
        return {"folder": self._workspace.folder}
