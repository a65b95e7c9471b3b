import shlex
from types import SimpleNamespace

import mlflow
import pytest

from wine_quality.hooks import RunSummaryHook


@pytest.fixture
def places(monkeypatch):
    """Where the summary of a run sends a person; the run is tracked or not."""

    def find(written, tracked, env=None, workspace="/data"):
        hook = RunSummaryHook()
        hook.after_context_created(SimpleNamespace(env=env))
        monkeypatch.setattr(mlflow, "active_run", lambda: "a run" if tracked else None)
        hook.before_pipeline_run()
        snapshots = SimpleNamespace(_describe=lambda: {"folder": workspace})
        return hook._places(written, {"evidently_snapshots": snapshots})

    return find


def test_tracked_runs_are_offered_after_a_tracked_run_only(places):
    lineage = {"lineage, figures": "./just viz --env week"}
    assert places(set(), tracked=False, env="week") == lineage
    tracked = {"tracked runs, registry": "./just mlflow --env week"}
    assert places(set(), tracked=True, env="week") == tracked | lineage


def test_the_command_holds_a_folder_with_spaces_together(places):
    found = places({"evidently_snapshots"}, tracked=False, workspace="/my data/workspace")
    command = shlex.split(found["Evidently's reports"])
    assert command == ["./just", "evidently", "/my data/workspace"]
