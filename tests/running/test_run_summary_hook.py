import shlex
from types import SimpleNamespace

import mlflow
import pytest

from wine_quality.running.hooks import RunSummaryHook


@pytest.fixture
def places(monkeypatch):
    """Where the summary of a run sends a person; the run is tracked or not."""

    def find(written, tracked, env=None, workspace="/data", reports=True):
        hook = RunSummaryHook()
        hook.after_context_created(SimpleNamespace(env=env))
        monkeypatch.setattr(mlflow, "active_run", lambda: "a run" if tracked else None)
        hook.before_pipeline_run()
        snapshots = SimpleNamespace(_describe=lambda: {"folder": workspace}, exists=lambda: reports)
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
    # without a report there is nothing to open
    none = places({"evidently_snapshots"}, tracked=False, reports=False)
    assert "Evidently's reports" not in none


def test_the_summary_tells_what_this_run_saved(monkeypatch, capsys):
    """Another run may have written the files by the time that this one ends."""
    monkeypatch.setattr(mlflow, "active_run", lambda: None)
    hook = RunSummaryHook()
    hook.after_context_created(SimpleNamespace(env=None))
    audit = {
        "read": 7,
        "accepted": 7,
        "by_type": {"red": 7},
        "rejected": 0,
        "exact_duplicates": 0,
        "missing": {},
        "rejected_by_reason": {},
    }
    node = SimpleNamespace(name="processing.audit_wines")
    pipeline = SimpleNamespace(all_outputs=lambda: {"wine_audit"})
    hook.before_pipeline_run()
    hook.after_dataset_saved("wine_audit", audit, node)
    hook.after_dataset_saved("accepted_wines", "not told of", node)
    hook.after_pipeline_run(pipeline, {"wine_audit": None})
    assert "7 read, 7 accepted (7 red)" in capsys.readouterr().out
    # the next session of this process has nothing to tell yet
    hook.before_pipeline_run()
    hook.after_pipeline_run(pipeline, {"wine_audit": None})
    assert capsys.readouterr().out == ""
