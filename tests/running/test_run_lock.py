import logging
import multiprocessing
import threading

import pytest
from kedro.framework import project
from kedro.pipeline import Pipeline, node

from wine_quality.database.errors import DatabaseUnavailableError
from wine_quality.errors import WineQualityError
from wine_quality.running import run_lock as module
from wine_quality.running.hooks import RunLockHook
from wine_quality.running.run_lock import run_lock

DATABASE = "sqlite:///nowhere.db"


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)


def test_a_second_run_of_the_same_files_waits_and_says_so(tmp_path, caplog):
    order, waits = [], threading.Event()

    class Told(logging.Handler):
        def emit(self, record):
            waits.set()

    def second():
        with run_lock(str(tmp_path), DATABASE, ["training"]):
            order.append("second")

    module.logger.addHandler(told := Told())
    try:
        with run_lock(str(tmp_path), DATABASE, ["training", "monitoring"]):
            other = threading.Thread(target=second)
            other.start()
            assert waits.wait(60)
            order.append("first")
        other.join(60)
    finally:
        module.logger.removeHandler(told)
    assert order == ["first", "second"]
    assert f"Another run writes the files of training in {tmp_path}" in caplog.text


@pytest.mark.parametrize(
    ("folder", "pipelines"), [("a", ["monitoring"]), ("b", ["training"])], ids=["files", "folder"]
)
def test_runs_of_other_files_do_not_wait(tmp_path, folder, pipelines, short):
    with (
        run_lock(f"{tmp_path}/a", DATABASE, ["training"]),
        run_lock(f"{tmp_path}/{folder}", DATABASE, pipelines),
    ):
        pass


def test_who_waits_for_too_long_is_told_for_whom(tmp_path, short):
    with (
        run_lock(str(tmp_path), DATABASE, ["training"]),
        pytest.raises(DatabaseUnavailableError, match=r"running training in .* process \d+ on "),
        run_lock(str(tmp_path), DATABASE, ["training"]),
    ):
        pass


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_folder_in_a_store_is_locked_in_the_database(tmp_path, kind, short, postgres_schema):
    def assert_locked(database):
        with run_lock("s3://wines/root", database, ["training"]):
            with (
                pytest.raises(DatabaseUnavailableError, match="running training in s3://wines"),
                run_lock("s3://wines/root", database, ["training"]),
            ):
                pass
            with run_lock("s3://wines/other", database, ["training"]):
                pass

    if kind == "sqlite":
        assert_locked(f"sqlite:///{tmp_path}/log.db")
        return
    with postgres_schema("lock folders of a store in PostgreSQL") as address:
        assert_locked(address)


def hold(root, held):
    with run_lock(root, DATABASE, ["training"]):
        held.set()
        threading.Event().wait()


def test_what_machines_share_one_run_at_a_time_does(tmp_path, short):
    """The folders differ, the database is the same."""
    database = f"sqlite:///{tmp_path}/log.db"
    with run_lock(f"{tmp_path}/a", database, ["processing"], ["retraining"]):
        with (
            pytest.raises(DatabaseUnavailableError, match="running retraining"),
            run_lock(f"{tmp_path}/b", database, ["processing"], ["retraining"]),
        ):
            pass
        with run_lock(f"{tmp_path}/b", database, ["processing"]):
            pass


def test_a_database_that_is_away_is_not_waited_for(caplog):
    away = "postgresql://wine@127.0.0.1:9/wines"
    with (
        pytest.raises(DatabaseUnavailableError, match=r"127\.0\.0\.1:9"),
        run_lock("s3://wines/root", away, ["training"]),
    ):
        pass
    assert "waiting" not in caplog.text


def test_a_run_that_was_killed_keeps_nobody(tmp_path, short):
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), held))
    process.start()
    assert held.wait(60)
    with (
        pytest.raises(DatabaseUnavailableError),
        run_lock(str(tmp_path), DATABASE, ["training"]),
    ):
        pass
    process.kill()
    process.join(60)
    with run_lock(str(tmp_path), DATABASE, ["training"]):
        pass


# The hook


class Context:
    """What the hook needs of Kedro's context."""

    def __init__(self, root):
        self.project_path = root
        self.config_loader = {
            "globals": {"root": "data"},
            "credentials": {"monitoring": {"url": DATABASE}},
        }


def made(*outputs):
    return Pipeline([node(len, "wines", output, name=output) for output in outputs])


@pytest.fixture
def hook(tmp_path, monkeypatch, short):
    registered = {
        "__default__": made("model", "verdicts", "settings"),
        "training": made("model", "card"),
        "monitoring": made("verdicts"),
        "tuning": made("settings"),
        "retraining": made("card", "retraining"),
    }
    monkeypatch.setattr(project, "pipelines", registered)
    hook = RunLockHook()
    hook.after_context_created(Context(tmp_path))
    yield hook
    hook.after_pipeline_run()


def start(hook, *outputs, failing=None):
    run = hook.before_pipeline_run(made(*outputs))
    next(run)
    if failing is not None:
        run.throw(failing)
    with pytest.raises(StopIteration):
        run.send(None)


def is_locked(root, pipeline):
    try:
        with run_lock(str(root / "data"), DATABASE, [pipeline]):
            return False
    except DatabaseUnavailableError:
        return True


def test_a_run_locks_the_pipelines_whose_files_it_writes(hook, tmp_path):
    start(hook, "card", "settings")
    assert is_locked(tmp_path, "training")
    assert not is_locked(tmp_path, "monitoring")
    # several runs may search a study at once
    assert not is_locked(tmp_path, "tuning")
    hook.after_pipeline_run()
    assert not is_locked(tmp_path, "training")


def test_a_run_that_may_retrain_locks_the_database(tmp_path, monkeypatch, short):
    database = f"sqlite:///{tmp_path}/log.db"
    monkeypatch.setattr(project, "pipelines", {"retraining": made("retraining")})
    hook = RunLockHook()
    context = Context(tmp_path)
    context.config_loader["credentials"]["monitoring"]["url"] = database
    hook.after_context_created(context)
    start(hook, "retraining")
    with (
        pytest.raises(DatabaseUnavailableError, match="running retraining"),
        run_lock(str(tmp_path / "other"), database, [], ["retraining"]),
    ):
        pass
    hook.after_pipeline_run()


def test_a_run_that_fails_releases_its_lock(hook, tmp_path):
    start(hook, "verdicts")
    hook.on_pipeline_error()
    assert not is_locked(tmp_path, "monitoring")
    with pytest.raises(WineQualityError, match="no wines"):
        start(hook, "verdicts", failing=WineQualityError("no wines"))
    assert not is_locked(tmp_path, "monitoring")


def test_a_run_that_was_interrupted_does_not_keep_the_next_one_of_its_process(hook):
    start(hook, "model")
    start(hook, "model")
