"""Evidently's reports in one of its workspaces, for its own pages (`evidently ui`).

A report's place follows from its title, which names the window and the model version: adding it
again replaces it. Files are moved into place whole, so that a run that is killed leaves each report
as it was or as it is to be.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from wine_quality.errors import WineQualityError

if TYPE_CHECKING:
    from evidently.sdk.models import DashboardPanelPlot

_NAMESPACE = UUID("1f0b7f6e-3f0c-4f5e-9a6e-6f2c1d8a4b57")
"""Of the projects' ids; any constant does, as long as it stays the same."""


def add_to_workspace(folder: Path, project: str, snapshots: Iterable[str]) -> UUID:
    """Add reports to a project of a workspace, each once; its dashboard shows them over time.

    The project is made, with its panels, if it is not there; panels that somebody has changed
    since stay as they are.

    Args:
        folder: The workspace; it is made if it is not there.
        project: The project's name.
        snapshots: The reports, as `ReportPage.json` holds them.

    Returns:
        The project's id, which its address ends with: ``/projects/<id>``.

    Raises:
        WineQualityError: If one of them is no report.
    """
    project_id = uuid5(_NAMESPACE, project)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".unfinished-") as place:
        unfinished = Path(place) / str(project_id)
        if not (folder / str(project_id) / "dashboard.json").exists():
            from evidently.sdk.models import ProjectModel
            from evidently.ui.workspace import Workspace

            workspace = Workspace(place)
            made = workspace.add_project(ProjectModel(id=project_id, name=project))
            for panel in _panels():
                made.dashboard.add_panel(panel)
        for snapshot in snapshots:
            target = unfinished / "snapshots" / f"{uuid5(project_id, title_of(snapshot))}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(snapshot, encoding="utf-8")
        # metadata before the dashboard, whose presence says that both are there
        for path in sorted(
            unfinished.rglob("*.json"), key=lambda path: path.name == "dashboard.json"
        ):
            target = folder / path.relative_to(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    return project_id


def read_workspace(folder: Path, project: str) -> dict[str, str]:
    """Read the reports of a project.

    Args:
        folder: The workspace.
        project: The project's name.

    Returns:
        Each report as it was added, by its title; none if there is no such project.
    """
    files = (folder / str(uuid5(_NAMESPACE, project)) / "snapshots").glob("*.json")
    snapshots = (path.read_text(encoding="utf-8") for path in files)
    return dict(sorted((title_of(snapshot), snapshot) for snapshot in snapshots))


def title_of(snapshot: str) -> str:
    """The title that a report was given.

    Raises:
        WineQualityError: If it has none, or is no report.
    """
    try:
        title = json.loads(snapshot)["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise WineQualityError(
            f"what was to be added to Evidently's workspace is no report of it ({error!r}): run "
            "'kedro run --pipeline monitoring' again"
        ) from error
    return str(title)


def _panels() -> "list[DashboardPanelPlot]":
    from evidently.sdk.models import PanelMetric
    from evidently.sdk.panels import line_plot_panel

    share = PanelMetric(
        legend="Share of drifted columns",
        metric="DriftedColumnsCount",
        metric_labels={"value_type": "share"},
    )
    error = PanelMetric(
        legend="Mean absolute error", metric="MAE", metric_labels={"value_type": "mean"}
    )
    return [
        line_plot_panel("Drift", [share], "Share of the columns whose verdict is drift, by window"),
        line_plot_panel("Error", [error], "Mean absolute error in points of quality, by window"),
    ]
