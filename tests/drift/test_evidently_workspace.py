"""Evidently is slow to import and to draw: two windows are drawn once."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from wine_quality.drift.evidently_reports import report_window
from wine_quality.drift.evidently_workspace import ReportWorkspace, title_of
from wine_quality.drift.judging import judge_log
from wine_quality.drift.settings import DriftSettings
from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, PREDICTION

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::evidently")]

PROJECT = "wine quality"


@pytest.fixture(scope="module")
def snapshots(draw_wines, held_out, reference, as_log) -> list[str]:
    """Drift and regression of two days; on the second day a column drifts and one is missing."""
    wines = draw_wines(300, 81)
    second = wines.index >= 150
    wines["alcohol"] = wines["alcohol"].where(~second, wines["alcohol"] + 2)
    wines["pH"] = wines["pH"].where(~second)
    log = as_log(wines, 150)
    verdicts, _ = judge_log(log, reference, DriftSettings())
    verdicts = verdicts[verdicts["column"].isin([*INPUTS, PREDICTION])]
    pages = []
    for start, judged in verdicts.groupby("window_start"):
        rows = log[log["event_time"].dt.normalize() == start]
        reports = report_window(rows, held_out, judged)
        pages += [reports.drift, reports.regression]
    return [page.json for page in pages if page is not None]


def workspace_at(folder: Path, project: str = PROJECT) -> ReportWorkspace:
    return ReportWorkspace(str(folder), project, str(folder / "pages"))


@pytest.fixture
def folder(tmp_path: Path, snapshots: list[str]) -> Path:
    workspace_at(tmp_path / "workspace").add(snapshots)
    return tmp_path / "workspace"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_reports_come_back_as_they_were_added(folder, snapshots):
    found = workspace_at(folder).read()
    assert found == {title_of(snapshot): snapshot for snapshot in snapshots}
    assert [title[:7] for title in found] == ["Drift: ", "Drift: ", "Regress", "Regress"]
    assert workspace_at(folder, "another").read() == {}


def test_evidently_reads_the_workspace(folder, snapshots):
    from evidently.ui.workspace import Workspace

    workspace = Workspace(str(folder))
    (project,) = workspace.list_projects()
    assert project.name == PROJECT
    runs = [workspace.get_run(project.id, run) for run in workspace.list_runs(project.id)]
    assert sorted(run.name for run in runs) == sorted(title_of(s) for s in snapshots)
    assert {str(run.timestamp)[:19] for run in runs} == {
        "2026-03-01 00:00:00",
        "2026-03-02 00:00:00",
    }
    assert [panel.title for panel in project.dashboard.model().panels] == ["Drift", "Error"]


def test_a_window_added_again_replaces_itself(folder, snapshots):
    before = files_of(folder)
    newer = json.dumps({**json.loads(snapshots[0]), "tags": ["newer"]})
    workspace_at(folder).add([newer])
    after = files_of(folder)
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name]] == [
        name for name, content in before.items() if content == snapshots[0].encode()
    ]


def test_a_killed_run_leaves_nothing_half_and_the_next_one_repairs(tmp_path, snapshots, folder):
    killed = tmp_path / "killed"
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from wine_quality.drift.evidently_workspace import ReportWorkspace\n"
        "def snapshots():\n"
        "    yield Path(sys.argv[2]).read_text()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"ReportWorkspace(sys.argv[1], {PROJECT!r}, sys.argv[1]).add(snapshots())\n"
    )
    source = tmp_path / "snapshot.json"
    source.write_text(snapshots[0])
    done = subprocess.run([sys.executable, "-c", code, killed, source], check=False)
    assert done.returncode == -signal.SIGKILL
    assert workspace_at(killed).read() == {}
    workspace_at(killed).add(snapshots)
    assert workspace_at(killed).read() == workspace_at(folder).read()


def test_panels_that_somebody_changed_stay(folder, snapshots):
    from evidently.ui.workspace import Workspace

    (project,) = Workspace(str(folder)).list_projects()
    project.dashboard.clear_dashboard()
    workspace_at(folder).add(snapshots)
    assert project.dashboard.model().panels == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", "3"])
def test_what_is_no_report_is_refused_and_changes_nothing(folder, text):
    before = files_of(folder)
    with pytest.raises(WineQualityError, match="no report of it"):
        workspace_at(folder).add([text])
    assert files_of(folder) == before


@pytest.fixture
def pages(folder: Path, tmp_path: Path, free_port, run_server):
    """Evidently's own pages of the workspace, on a free port."""
    port = free_port()
    program = str(Path(sys.executable).with_name("evidently"))
    command = [program, "ui", "--workspace", str(folder), "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "DO_NOT_TRACK": "true"}
    with run_server(command, f"{address}/api/projects", tmp_path / "ui.log", env=environment):
        yield address


def get(address: str, body: object = None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        address, data, {"Content-Type": "application/json"} if data else {}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_evidentlys_pages_show_one_line_of_drift_and_one_of_error(pages, folder):
    (project,) = get(f"{pages}/api/projects")
    dashboard = get(f"{pages}/api/v2/dashboards/{project['id']}")
    shown = {}
    for panel in dashboard["panels"]:
        (value,) = panel["values"]
        wanted = {key: value[key] for key in ("tags", "metadata", "metric", "metric_labels")}
        found = get(
            f"{pages}/api/v2/snapshots/{project['id']}/data_series_batch",
            {"series_filter": [wanted]},
        )
        (series,) = found["series"]
        shown[panel["title"]] = series["values"]
    columns = 13
    # on the second day the column without values is left out
    assert shown["Drift"] == [0, pytest.approx(1 / (columns - 1))]
    assert len(shown["Error"]) == 2
    assert all(0 < error < 1 for error in shown["Error"])
