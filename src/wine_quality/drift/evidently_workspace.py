"""Evidently's reports in one of its workspaces, for its own pages (`evidently ui`).

A report's place follows from its title, which names the window and the model version: adding it
again replaces it. Files appear whole, so that a run that is killed leaves each report as it was or
as it is to be.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import fsspec

from wine_quality.errors import WineQualityError
from wine_quality.system.storage import write_whole
from wine_quality.wines import QUALITY_UNIT

if TYPE_CHECKING:
    from evidently.sdk.models import DashboardPanelPlot

_NAMESPACE = UUID("1f0b7f6e-3f0c-4f5e-9a6e-6f2c1d8a4b57")
"""Of the projects' ids; any constant does, as long as it stays the same."""
_DASHBOARD = "dashboard.json"
"""Holds a project's panels; by Evidently's choice."""


_MARK = "\n<!-- drawn from {state}, in the workspace as {name} -->\n"
_NO_REPORT = "nothing"
_MARKED = re.compile(_MARK.format(state=r"(\w+)", name=r"(\S+)") + r"\Z")
_LONGEST_MARK = 300


class ReportWorkspace:
    """One project in a workspace, and the pages of the last run beside it.

    Args:
        folder: The workspace, a path or an address; it is made with the first report.
        project: The project's name.
        pages: The folder of the pages, likewise.
    """

    def __init__(self, folder: str, project: str, pages: str) -> None:
        self.folder = folder
        self._project, self._pages = project, pages
        self._id = uuid5(_NAMESPACE, project)

    def add(self, snapshots: Iterable[str]) -> UUID:
        """Add reports, each once; the project's dashboard shows them over time.

        The project is made, with its panels, with its first report; panels that somebody has
        changed since stay as they are.

        Args:
            snapshots: The reports, as `ReportPage.json` holds them.

        Returns:
            The project's id, which its address ends with: ``/projects/<id>``.

        Raises:
            WineQualityError: If one of them is no report.
        """
        reports = {self._file(title_of(text)): text for text in snapshots}
        if not reports:
            # making a project imports Evidently, a tenth of a run's time
            return self._id
        files, root = self._place()
        # metadata before the dashboard, whose presence says that both are there
        contents = {} if self.exists() else _new_project(self._id, self._project)
        for name, text in sorted((contents | reports).items(), key=lambda x: x[0] == _DASHBOARD):
            with write_whole(files, f"{root}/{name}") as file:
                file.write(text.encode())
        return self._id

    def exists(self) -> bool:
        """Tell whether the project is there, and so at least a report of it."""
        files, root = self._place()
        return bool(files.exists(f"{root}/{_DASHBOARD}"))

    def read(self) -> dict[str, str]:
        """Read the reports: each as it was added, by its title."""
        files, _ = self._place()
        snapshots = (files.cat_file(path).decode() for path in self._reports().values())
        return dict(sorted((title_of(snapshot), snapshot) for snapshot in snapshots))

    def remove(self, titles: Iterable[str]) -> int:
        """Remove the reports of these titles that are there; how many those were."""
        files, _ = self._place()
        there = self._reports()
        gone = there.keys() & set(map(self._file, titles))
        for name in gone:
            files.rm_file(there[name])
        return len(gone)

    def mark(self, page: str, state: str, title: str | None) -> str:
        """Write below a page what it was drawn from, for `drawn_pages` to find.

        Args:
            page: HTML.
            state: Identifies all that the page shows.
            title: Title of the page's report; None where it has none.
        """
        name = self._file(title) if title else _NO_REPORT
        return page + _MARK.format(state=state, name=name)

    def drawn_pages(self) -> dict[str, dict[str, str]]:
        """Find the pages of the last run that say what they were drawn from.

        Returns:
            By that state, their paths by the file's name. A page whose report has been removed from
            the workspace is not among them.
        """
        files, pages = fsspec.core.url_to_fs(self._pages)
        known = {_NO_REPORT, *self._reports()}
        found: dict[str, dict[str, str]] = {}
        for path in (*files.glob(f"{pages}/*.html"), *files.glob(f"{pages}/*/*.html")):
            marked = _MARKED.search(files.tail(path, _LONGEST_MARK).decode(errors="replace"))
            if marked and marked[2] in known:
                found.setdefault(marked[1], {})[PurePosixPath(path).stem] = path
        return found

    def read_page(self, path: str) -> str:
        """Read a page that `drawn_pages` has found."""
        files, _ = fsspec.core.url_to_fs(self._pages)
        return str(files.cat_file(path).decode())

    def _reports(self) -> dict[str, str]:
        """The paths of all reports, by their name in the project."""
        files, root = self._place()
        return {
            f"snapshots/{PurePosixPath(path).name}": path
            for path in files.glob(f"{root}/snapshots/*.json")
        }

    def _place(self) -> tuple[Any, str]:
        files, folder = fsspec.core.url_to_fs(self.folder)
        return files, f"{folder}/{self._id}"

    def _file(self, title: str) -> str:
        return f"snapshots/{uuid5(self._id, title)}.json"


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
