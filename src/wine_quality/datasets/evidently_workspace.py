"""Evidently's reports in a workspace that its own pages show."""

from typing import Any

from kedro.io import AbstractDataset

from wine_quality.drift.evidently_workspace import add_to_workspace, has_project, read_workspace


class EvidentlyWorkspaceDataset(AbstractDataset[dict[str, str], dict[str, str]]):
    """Reports of windows in one project of an Evidently workspace, each window's once.

    Saving adds reports to those that are there; loading gives all of them, by title.

    Args:
        folder: The workspace, a path or an address.
        project: Name of the project.
        metadata: For kedro-viz.
    """

    def __init__(
        self, *, folder: str, project: str, metadata: dict[str, Any] | None = None
    ) -> None:
        self._folder = folder
        self._project = project
        self.metadata = metadata

    def load(self) -> dict[str, str]:
        """Read the reports, by title."""
        return read_workspace(self._folder, self._project)

    def save(self, data: dict[str, str]) -> None:
        """Add reports; what they are called in `data` does not matter, their titles do."""
        add_to_workspace(self._folder, self._project, data.values())

    def _exists(self) -> bool:
        return has_project(self._folder, self._project)

    def _describe(self) -> dict[str, Any]:
        return {"folder": self._folder, "project": self._project}
