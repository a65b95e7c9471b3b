"""Evidently's reports in one of its workspaces, for its own pages (`evidently ui`).

A report's place follows from its title, which names the window and the model version: adding it
again replaces it. Files appear whole, so that a run that is killed leaves each report as it was or
as it is to be.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from wine_quality.errors import WineQualityError
from wine_quality.system.storage import write_whole
from wine_quality.wines import QUALITY_UNIT

if TYPE_CHECKING:
    from evidently.sdk.models import DashboardPanelPlot

_NAMESPACE = UUID("1f0b7f6e-3f0c-4f5e-9a6e-6f2c1d8a4b57")
"""Of the projects' ids; any constant does, as long as it stays the same."""
_DASHBOARD = "dashboard.json"
"""Holds a project's panels; by Evidently's choice."""


def add_to_workspace(folder: str, project: str, snapshots: Iterable[str]) -> UUID:
    """Add reports to a project of a workspace, each once; its dashboard shows them over time.

    The project is made, with its panels, with its first report; panels that somebody has changed
    since stay as they are.

    Args:
        folder: The workspace, a path or an address; it is made if it is not there.
        project: The project's name.
        snapshots: The reports, as `ReportPage.json` holds them.

    Returns:
        The project's id, which its address ends with: ``/projects/<id>``.

    Raises:
        WineQualityError: If one of them is no report.
    """
    import fsspec

    project_id = uuid5(_NAMESPACE, project)
    reports = {f"snapshots/{uuid5(project_id, title_of(text))}.json": text for text in snapshots}
    if not reports:
        # making a project imports Evidently, a tenth of a run's time
        return project_id
    files, root = fsspec.core.url_to_fs(folder)
    # metadata before the dashboard, whose presence says that both are there
    contents = {} if has_project(folder, project) else _new_project(project_id, project)
    for name, text in sorted((contents | reports).items(), key=lambda item: item[0] == _DASHBOARD):
        with write_whole(files, f"{root}/{project_id}/{name}") as file:
            file.write(text.encode())
    return project_id


def has_project(folder: str, project: str) -> bool:
    """Tell whether a project is there, and so at least a report of it."""
    import fsspec

    files, root = fsspec.core.url_to_fs(folder)
    return bool(files.exists(f"{root}/{uuid5(_NAMESPACE, project)}/{_DASHBOARD}"))


def read_workspace(folder: str, project: str) -> dict[str, str]:
    """Read the reports of a project.

    Args:
        folder: The workspace, a path or an address.
        project: The project's name.

    Returns:
        Each report as it was added, by its title; none if there is no such project.
    """
    import fsspec

    files, root = fsspec.core.url_to_fs(folder)
    paths = files.glob(f"{root}/{uuid5(_NAMESPACE, project)}/snapshots/*.json")
    snapshots = (files.cat_file(path).decode() for path in paths)
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


def _new_project(project_id: UUID, name: str) -> dict[str, str]:
    """Have Evidently make a project with its panels; its files' content, by name."""
    from evidently.sdk.models import ProjectModel
    from evidently.ui.workspace import Workspace

    with TemporaryDirectory() as place:
        made = Workspace(place).add_project(ProjectModel(id=project_id, name=name))
        for panel in _panels():
            made.dashboard.add_panel(panel)
        folder = Path(place) / str(project_id)
        return {
            path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
            for path in folder.rglob("*.json")
        }


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
        line_plot_panel("Error", [error], f"Mean absolute error in {QUALITY_UNIT}, by window"),
    ]
