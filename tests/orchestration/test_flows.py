"""A flow of several runs: which failure ends it at once, and which after the runs that follow."""

from importlib.util import find_spec

import pytest

from wine_quality.drift.alerts import FailingAlertsError
from wine_quality.errors import WineQualityError

pytestmark = pytest.mark.skipif(
    find_spec("prefect") is None, reason="Prefect is an extra: './just extras'"
)


@pytest.fixture
def run(monkeypatch):
    """Runs a flow whose sessions end as given; gives its state and what was run."""
    from wine_quality.orchestration import flows

    def run_flow(endings, *pipelines):
        ran = []

        class Session:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def run(self, pipeline_names, runner):
                ran.append(pipeline_names)
                error = endings.get(pipeline_names[0])
                if error:
                    raise error

        monkeypatch.setattr(
            "kedro.framework.session.KedroSession.create", lambda *_, **__: Session()
        )
        return flows.run_pipeline.fn(pipelines), ran

    return run_flow


def test_runs_follow_one_another(run):
    state, ran = run({}, "monitoring", "processing,training")
    assert state is None
    assert ran == [["monitoring"], ["processing", "training"]]


def test_after_a_failure_nothing_follows(run):
    state, ran = run({"monitoring": WineQualityError("no log")}, "monitoring", "retraining")
    assert state.is_failed()
    assert "no log" in state.message
    assert ran == [["monitoring"]]


def test_alerts_let_the_next_run_begin_and_fail_the_flow(run):
    alerted = FailingAlertsError("1 alert is open and new")
    state, ran = run({"monitoring": alerted}, "monitoring", "retraining")
    assert ran == [["monitoring"], ["retraining"]]
    assert state.is_failed()
    assert "1 alert is open and new" in state.message
