"""Production as a team has it: files in an object store, tables in a database, an MLflow server."""

import json
import os
import re
import sys
from pathlib import Path

import boto3
import pandas as pd
import pytest
from moto.core import set_initial_no_auth_action_count

from tests.sessions.conftest import ONE_CANDIDATE

PROJECT = Path(__file__).parents[2]
SMALL = {
    name: (PROJECT / "conf" / "test" / name).read_text()
    for name in ("parameters_training.yml", "parameters_tuning.yml")
}
PROCESSING = ("--pipeline", "processing")
REPORTS = ("verdicts", "model_verdicts")
ARTIFACTS = {
    *("model.skops", "onnx/model.onnx", "reference/profile.json"),
    *("model_card.html", "figures/comparison.json"),
}


@pytest.fixture
def variables(store, tmp_path):
    """What a team sets to keep its files in a store; databases are on this machine's disk."""
    sample = PROJECT / "data/01_raw/sample"
    store.files.put([str(path) for path in sample.glob("*.csv")], f"{store.bucket}/01_raw/")
    databases = tmp_path / "databases"
    databases.mkdir()
    return {
        "WINE_QUALITY_RAW": f"{store.address}/01_raw",
        "WINE_QUALITY_ROOT": f"{store.address}/team",
        "WINE_QUALITY_ARTIFACTS": f"{store.address}/mlflow",
        "WINE_QUALITY_LOG_URL": f"sqlite:///{databases}/log.db",
        "TRACKING_URI": f"sqlite:///{databases}/mlflow.db",
    }


@pytest.fixture
def environment(project_environment):
    """Production with small candidates."""
    # MLflow sets its own variable in the process that it is used in
    mlflow = (PROJECT / "conf/production/mlflow.yml").read_text()
    files = SMALL | {"mlflow.yml": mlflow.replace("MLFLOW_TRACKING_URI", "TRACKING_URI")}
    return project_environment("small_production", like="production", files=files)


@pytest.fixture
def run_in_store(variables, environment, kedro_here, monkeypatch, store):
    """Runs a pipeline in this process, with some variables set otherwise."""

    def run(*arguments, root, **changed):
        for name, value in (variables | changed).items():
            monkeypatch.setenv(name, value)
        store.files.clear_instance_cache()
        return kedro_here(*environment, *arguments, root=root)

    return run


@pytest.fixture
def failing(run_in_store, fresh_root):
    """Runs a pipeline that has to fail; gives the one line."""
    tracking = {"TRACKING_URI": f"sqlite:///{fresh_root}/mlflow.db"}
    return lambda *arguments, **changed: (
        run_in_store(*arguments, root=fresh_root, **(tracking | changed)).error
    )


def table(files, root, path):
    with files.open(f"{root}/{path}") as file:
        return pd.read_parquet(file)


@pytest.fixture
def database(variables, request):
    """URL of the log's database: PostgreSQL where the tests were given one, else SQLite."""
    if not os.environ.get("WINE_QUALITY_TEST_POSTGRES_URL"):
        yield variables["WINE_QUALITY_LOG_URL"]
        return
    open_schema = request.getfixturevalue("postgres_schema")
    with open_schema("keep the log, the profiles and the studies in PostgreSQL") as url:
        yield url


@pytest.fixture
def tracking_server(store, tmp_path, free_port, run_server):
    """An MLflow server that keeps artifacts in the store; its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    command += ["--artifacts-destination", f"{store.address}/mlflow"]
    address = f"http://127.0.0.1:{port}"
    with run_server(command, f"{address}/health", tmp_path / "log"):
        yield address


@pytest.mark.slow
def test_production_reaches_the_verdicts_of_the_default(
    store, variables, environment, kedro_apart, database, tracking_server, whole_run, tmp_path
):
    files, root = store.files, f"{store.bucket}/team"
    ours = variables | {"WINE_QUALITY_LOG_URL": database, "TRACKING_URI": tracking_server}
    del ours["WINE_QUALITY_ARTIFACTS"]
    done = kedro_apart(*environment, root=tmp_path / "local", variables=ours)
    assert done.status == 0, done.errors
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in done.output + done.errors

    def check_verdicts():
        # the same champion and verdicts
        promotion = json.loads(files.cat_file(f"{root}/08_reporting/promotion.json"))
        default = json.loads((whole_run.root / "08_reporting/promotion.json").read_text())
        del promotion["run_id"], default["run_id"]
        assert promotion == default
        for name in REPORTS:
            found = table(files, root, f"08_reporting/{name}.parquet").drop(columns="reason")
            default = pd.read_parquet(whole_run.root / f"08_reporting/{name}.parquet")
            pd.testing.assert_frame_equal(found, default.drop(columns="reason"), rtol=1e-9)

    check_verdicts()
    # every file of the default run that is no database is there, and no other
    found = {path.removeprefix(f"{root}/") for path in files.find(root)}
    expected = {
        path.relative_to(whole_run.root).as_posix()
        for path in whole_run.root.rglob("*")
        if path.is_file()
        and not path.name.endswith("-lock")
        and ".db" not in path.name
        and "mlartifacts" not in path.parts
    }
    assert found == expected
    on_disk = {path.name for path in (tmp_path / "databases").iterdir()}
    assert ("log.db" in on_disk) == database.startswith("sqlite")
    assert not (tmp_path / "local").exists()
    assert not list(PROJECT.glob("s3:*"))
    # the server has written them
    artifacts = {path.partition("/artifacts/")[2] for path in files.find(f"{store.bucket}/mlflow")}
    assert artifacts >= ARTIFACTS

    # pages open as pages, and the summary says where they are
    for page in ("monitoring", "model_card", "training_figures", "evidently/drift"):
        path = f"{root}/08_reporting/{page}.html"
        assert files.info(path)["ContentType"] == "text/html"
        assert files.cat_file(path).lstrip()[:15].lower().startswith((b"<!doctype html", b"<html"))
    assert f"{store.address}/team/08_reporting/monitoring.html" in done.output
    assert f"./just evidently {store.address}/team/08_reporting/evidently_wor" in done.output

    again = kedro_apart(
        *environment, "--pipeline", "monitoring", root=tmp_path / "local", variables=ours
    )
    assert again.status == 0, again.errors
    assert re.search(r"Counted 0 of \d+ hours; the others are known", again.output)
    assert {path.removeprefix(f"{root}/") for path in files.find(root)} == expected
    check_verdicts()


@pytest.mark.slow
def test_without_a_server_artifacts_go_to_the_store(store, run_in_store, tmp_path):
    done = run_in_store(
        *("--pipelines", "processing,training", "--params", ONE_CANDIDATE), root=tmp_path / "local"
    )
    assert done.status == 0, done.errors
    found = store.files.find(f"{store.bucket}/mlflow")
    assert {path.partition("/artifacts/")[2] for path in found} >= ARTIFACTS
    assert not (tmp_path / "local").exists()
    assert {path.name for path in (tmp_path / "databases").iterdir()} >= {"mlflow.db"}


@pytest.mark.slow
def test_evidentlys_pages_read_the_workspace_in_the_store(store):
    from evidently import Report
    from evidently.metrics import RowCount
    from evidently.ui.workspace import Workspace

    from wine_quality.drift.evidently_workspace import ReportWorkspace

    folder, pages = f"{store.address}/workspace", f"{store.address}/pages"
    workspace = ReportWorkspace(folder, "wines", pages)
    assert not workspace.exists()
    report = Report([RowCount()]).run(pd.DataFrame({"pH": [3.1, 3.2]}), name="Drift: a day")
    workspace.add([report.dumps()])
    (project,) = Workspace(folder).list_projects()
    assert project.name == "wines"
    assert [panel.title for panel in project.dashboard.model().panels] == ["Drift", "Error"]
    assert list(workspace.read()) == ["Drift: a day"]
    assert workspace.drawn_pages() == {}
    page = workspace.mark("<html>a day</html>", "now", "Drift: a day")
    store.files.pipe(f"{pages}/drift.html", page.encode())
    (path,) = workspace.drawn_pages()["now"].values()
    assert path.endswith("/drift.html")
    assert workspace.read_page(path) == page
    assert workspace.remove(["Drift: a day", "Drift: another"]) == 1
    assert workspace.read() == workspace.drawn_pages() == {}


# mistakes


def test_a_bucket_that_is_not_there_is_named_before_anything_runs(failing):
    error = failing("--pipeline", "training", WINE_QUALITY_ROOT="s3://no-such-bucket/team")
    assert error.startswith("s3://no-such-bucket/team cannot be used (ListObjectsV2: NoSuchBucket,")
    error = failing(*PROCESSING, WINE_QUALITY_RAW="s3://no-such-bucket/raw")
    assert error.startswith("s3://no-such-bucket/raw cannot be used (ListObjectsV2: NoSuchBucket,")


def test_a_raw_folder_without_wines(failing, store):
    error = failing(*PROCESSING, WINE_QUALITY_RAW=f"{store.address}/empty")
    assert error == (
        f"No wine file in {store.address}/empty: put wine files there, or name another folder in "
        "WINE_QUALITY_RAW."
    )


def test_a_key_that_may_read_and_not_write(failing, store):
    iam = boto3.client("iam", endpoint_url=store.endpoint)
    iam.create_user(UserName="reader")
    statement = {"Effect": "Allow", "Action": ["s3:List*", "s3:Get*"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    changed = {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    error = set_initial_no_auth_action_count(0)(failing)(*PROCESSING, **changed)
    path = "team/02_intermediate/rejected_wines.csv"
    assert error.startswith(f"{store.address}/{path} cannot be used (PutObject: AccessDenied, ")
    assert error.endswith("that your credentials may list, read and write there.")
    assert key["SecretAccessKey"] not in error


@pytest.mark.parametrize("name", ["WINE_QUALITY_LOG_URL", "TRACKING_URI"])
def test_a_database_cannot_lie_in_a_store(failing, store, name):
    url = f"sqlite:///{store.address}/wines.db"
    error = failing(*PROCESSING, **{name: url})
    assert error.startswith(f"{url} cannot be: SQLite needs a disk")
    assert store.files.find(f"{store.bucket}/team") == []


def test_a_lake_cannot_be_written_to_a_store(
    kedro_here, project_environment, after_whole_run, store
):
    given = (
        "serving_simulation.backend.name=lake,"
        f"serving_simulation.backend.config.folder={store.address}/lake"
    )
    outcome = kedro_here(
        *("--env", "test", "--pipeline", "serving_simulation", "--params", given),
        root=after_whole_run,
    )
    assert f"{store.address}/lake is no folder of this machine" in outcome.error
