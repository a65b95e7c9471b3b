import shlex
from types import SimpleNamespace
from typing import ClassVar

import mlflow
import pytest

from wine_quality.running.hooks import RunSummaryHook

PARAMS = {"pipeline_names": None}


class Client:
    """Stands for MLflow's: keeps what is written of the run."""

    written: ClassVar[dict[str, str]] = {}

    def update_run(self, run_id, name):
        self.written[f"{run_id} name"] = name

    def set_tag(self, run_id, key, value):
        self.written[f"{run_id} {key}"] = value


@pytest.fixture
def tracked(monkeypatch):
    """Has a run be tracked, or not; what MLflow was given is kept."""

    def track(is_tracked):
        run = SimpleNamespace(info=SimpleNamespace(run_id="r")) if is_tracked else None
        monkeypatch.setattr(mlflow, "active_run", lambda: run)

    monkeypatch.setattr(mlflow, "MlflowClient", Client)
    monkeypatch.setattr(Client, "written", {})
    track(False)
    return track


@pytest.fixture
def places(tracked):
    """Where the summary of a run sends a person; the run is tracked or not."""

    def find(written, is_tracked, env=None, workspace="/data", reports=True):
        hook = RunSummaryHook()
        hook.after_context_created(SimpleNamespace(env=env))
        tracked(is_tracked)
        hook.before_pipeline_run(PARAMS)
        found = SimpleNamespace(_describe=lambda: {"folder": workspace}, exists=lambda: reports)
        return hook._places(written, {"evidently_workspace": found})

    return find


def test_tracked_runs_are_offered_after_a_tracked_run_only(places):
    lineage = {"lineage, figures": "./just viz --env week"}
    assert places(set(), is_tracked=False, env="week") == lineage
    tracked = {"tracked runs, registry": "./just mlflow --env week"}
    assert places(set(), is_tracked=True, env="week") == tracked | lineage


def test_the_command_holds_a_folder_with_spaces_together(places):
    found = places({"evidently_pages"}, is_tracked=False, workspace="/my data/workspace")
    command = shlex.split(found["Evidently's reports"])
    assert command == ["./just", "evidently", "/my data/workspace"]
    # without a report there is nothing to open
    none = places({"evidently_pages"}, is_tracked=False, reports=False)
    assert "Evidently's reports" not in none


AUDIT = {
    "read": 7,
    "accepted": 7,
    "by_type": {"red": 7},
    "rejected": 0,
    "exact_duplicates": 0,
    "missing": {},
    "rejected_by_reason": {},
}


@pytest.mark.usefixtures("tracked")
def test_the_summary_tells_what_this_run_saved(capsys):
    """Another run may have written the files by the time that this one ends."""
    hook = RunSummaryHook()
    hook.after_context_created(SimpleNamespace(env=None))
    node = SimpleNamespace(name="processing.audit_wines")
    pipeline = SimpleNamespace(all_outputs=lambda: {"wine_audit"})
    hook.before_pipeline_run(PARAMS)
    hook.after_dataset_saved("wine_audit", AUDIT, node)
    hook.after_dataset_saved("accepted_wines", "not told of", node)
    hook.after_pipeline_run(pipeline, {"wine_audit": None})
    assert "7 read, 7 accepted (7 red)" in capsys.readouterr().out
    assert Client.written == {}
    # the next session of this process has nothing to tell yet
    hook.before_pipeline_run(PARAMS)
    hook.after_pipeline_run(pipeline, {"wine_audit": None})
    assert capsys.readouterr().out == ""


def test_the_tracked_run_is_named_by_pipeline_environment_and_outcome(tracked):
    tracked(True)
    hook = RunSummaryHook()
    hook.after_context_created(SimpleNamespace(env=None))
    hook.before_pipeline_run({"pipeline_names": ["processing", "training"]})
    assert Client.written == {"r name": "processing+training, base"}
    promotion = {"version": "4", "promoted": False}
    node = SimpleNamespace(name="processing.audit_wines")
    hook.after_dataset_saved("promotion", promotion, node)
    hook.after_dataset_saved("wine_audit", AUDIT, node)
    pipeline = SimpleNamespace(all_outputs=lambda: {"wine_audit"})
    hook.after_pipeline_run(pipeline, {"wine_audit": None})
    assert Client.written["r name"] == "processing+training, base: version 4 is challenger"
    assert "7 read, 7 accepted (7 red)" in Client.written["r mlflow.note.content"]
    hook.on_pipeline_error()
    assert Client.written["r name"] == "processing+training, base: failed"


def test_a_tracked_run_that_tells_nothing_is_done(tracked):
    tracked(True)
    hook = RunSummaryHook()
    hook.after_context_created(SimpleNamespace(env="test"))
    hook.before_pipeline_run(PARAMS)
    hook.after_pipeline_run(SimpleNamespace(all_outputs=set), {})
    assert Client.written == {"r name": "__default__, test: done"}
