"""What a person reads who made a mistake: one line, no stack trace, nothing half written."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest
import sqlalchemy

from tests.sessions.conftest import ONE_CANDIDATE

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "data/01_raw/sample"
PROCESSING = ("--pipeline", "processing")
TRAINING = ("--pipeline", "training")
SIMULATION = ("--pipeline", "serving_simulation")
MONITORING = ("--pipeline", "monitoring")
TEST = ("--env", "test")


@pytest.fixture
def raw(tmp_path):
    """A raw folder of 300 wines, for a test to spoil."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for path in SAMPLE.glob("*.csv"):
        lines = path.read_text().splitlines(keepends=True)
        (folder / path.name).write_text("".join(lines[:151]))
    return folder


def spoil(path, line, column, value):
    """Replace one value of a raw file; lines count from 1, the header's."""
    lines = path.read_text().splitlines()
    values = lines[line - 1].split(";")
    values[column] = value
    lines[line - 1] = ";".join(values)
    path.write_text("\n".join(lines) + "\n")


def is_lock(path: Path) -> bool:
    """Whether a file is the lock of the runs that write a folder, which stays."""
    return path.name.startswith(".") and path.name.endswith("-lock")


def content(root):
    """All files that datasets wrote, with their content; databases and their lock apart."""
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
        and path.suffix not in {".db", ".db-wal", ".db-shm", ".setup-lock"}
        and not is_lock(path)
    }


# what is asked too early


@pytest.mark.parametrize(
    ("pipeline", "missing", "first"),
    [
        (
            "training",
            "held_out_wines and no split_audit and no training_wines and no wine_audit",
            "processing",
        ),
        ("tuning", "training_wines", "processing"),
        ("serving_simulation", "champion and no held_out_wines", "processing,training"),
        ("monitoring", "inference_log", "serving_simulation"),
    ],
)
def test_a_pipeline_that_is_too_early_says_what_to_run_first(
    kedro_here, fresh_root, pipeline, missing, first
):
    outcome = kedro_here(*TEST, "--pipeline", pipeline, root=fresh_root)
    assert outcome.error == (
        f"There is no {missing} yet: run 'kedro run --env test' for everything, "
        f"or 'kedro run --env test --pipelines {first}' first."
    )
    # asking creates nothing, the log's database least of all
    left = {path.name for path in fresh_root.iterdir() if not is_lock(path)}
    assert left == {"mlflow.db", "mlflow.db.setup-lock"}


def test_what_the_message_says_to_run_first_helps(kedro_here, fresh_root, project_environment, raw):
    environment = project_environment(raw=str(raw), root=str(fresh_root))
    too_early = kedro_here(*environment, *SIMULATION, root=fresh_root).error
    _, _, advice = too_early.partition("--pipelines ")
    first = advice.partition("'")[0]
    small = ("--params", ONE_CANDIDATE)
    assert kedro_here(*environment, "--pipelines", first, *small, root=fresh_root).status == 0
    sent = kedro_here(*environment, *SIMULATION, root=fresh_root)
    assert sent.status == 0, sent.errors


def test_a_person_reads_the_same_in_a_process_of_its_own(kedro_apart, fresh_root):
    outcome = kedro_apart(*TEST, *MONITORING, root=fresh_root)
    assert outcome.error.startswith("There is no inference_log yet: run 'kedro run --env test'")
    assert outcome.errors.count("\n") == 1
    assert not (fresh_root / "inference_log.db").exists()


# raw wines


def refuse_raw(kedro_here, project_environment, raw, root):
    """Run processing on a raw folder that must be refused, after it ran on a good one."""
    environment = project_environment(raw=str(raw), root=str(root))
    return kedro_here(*environment, *PROCESSING, root=root).error


def test_a_raw_folder_that_is_not_there(kedro_here, project_environment, tmp_path, fresh_root):
    nowhere = tmp_path / "nowhere"
    error = refuse_raw(kedro_here, project_environment, nowhere, fresh_root)
    assert error.startswith(f"No wine file in {nowhere}: ")
    assert "'python -m wine_quality.traffic.synthetic data/01_raw/sample'" in error


def test_a_column_that_is_missing(kedro_here, project_environment, raw, fresh_root):
    path = raw / "winequality-red.csv"
    rows = [line.split(";") for line in path.read_text().splitlines()]
    path.write_text("\n".join(";".join(row[1:]) for row in rows))
    error = refuse_raw(kedro_here, project_environment, raw, fresh_root)
    assert error.startswith(
        "winequality-red.csv: column fixed_acidity is missing from the header ("
    )
    assert error.endswith("): add it, or remove the file.")
    assert content(fresh_root) == {}


def test_an_empty_file(kedro_here, project_environment, raw, fresh_root):
    (raw / "winequality-white.csv").write_text("")
    error = refuse_raw(kedro_here, project_environment, raw, fresh_root)
    assert error == "winequality-white.csv is empty: replace it by a wine file or remove it."
    assert content(fresh_root) == {}


def test_a_file_of_nothing_but_a_header(kedro_here, project_environment, raw, fresh_root):
    path = raw / "winequality-white.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    error = refuse_raw(kedro_here, project_environment, raw, fresh_root)
    assert error == (
        "winequality-white.csv has a header and no wine: add wines or remove the file."
    )


def test_a_file_that_is_no_text(kedro_here, project_environment, raw, fresh_root):
    (raw / "winequality-white.csv").write_bytes(bytes(range(256)))
    error = refuse_raw(kedro_here, project_environment, raw, fresh_root)
    assert error == (
        "winequality-white.csv is not UTF-8 text (invalid start byte in line 2, column 118): save "
        "it as UTF-8."
    )


def test_text_in_a_number_leaves_the_accepted_wines_as_they_were(
    kedro_here, project_environment, raw, fresh_root
):
    environment = project_environment(raw=str(raw), root=str(fresh_root))
    assert kedro_here(*environment, *PROCESSING, root=fresh_root).status == 0
    whole = {path: data for path, data in content(fresh_root).items() if "wines" in path.name}

    spoil(raw / "winequality-red.csv", 6, 3, "sweet")
    error = kedro_here(*environment, *PROCESSING, root=fresh_root).error
    assert error == (
        "1 of 300 rows rejected, the first at winequality-red.csv line 6: "
        "residual_sugar is not a number: sweet. Correct the files (all reasons are in the dataset "
        "rejected_wines), or go on without them: --params processing.allow=[rejected_rows]"
    )
    after = content(fresh_root)
    for name in ("accepted_wines", "training_wines", "held_out_wines"):
        (path,) = (path for path in whole if path.stem == name)
        assert after[path] == whole[path]

    # and what the message says to do works
    allowed = kedro_here(
        *environment, *PROCESSING, "--params", "processing.allow=[rejected_rows]", root=fresh_root
    )
    assert allowed.status == 0, allowed.errors
    assert "300 read, 299 accepted" in allowed.output
    assert "rejected: 1 because residual_sugar is not a number" in allowed.output


def test_without_a_whole_row_there_are_no_accepted_wines(
    kedro_here, project_environment, raw, fresh_root
):
    spoil(raw / "winequality-red.csv", 2, 0, "-1")
    error = refuse_raw(kedro_here, project_environment, raw, fresh_root)
    assert "line 2: fixed_acidity is impossible: -1" in error
    assert not [path for path in content(fresh_root) if path.stem == "accepted_wines"]


# parameters


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            "trainng.metric=mae",
            "trainng: there is no such parameter (those of a pipeline of your own stand in a group "
            "with its name)",
        ),
        (
            "training.comparison.metrik=mae",
            "training.comparison.metrik: there is no such parameter",
        ),
        (
            "training.candidates.xgboost.estimatr=xgboost.XGBRegressor",
            "training.candidates.xgboost.estimatr: there is no such parameter",
        ),
        (
            "monitoring.drift.windows=1h",
            "monitoring.drift.windows: there is no such parameter",
        ),
        (
            "serving_simulation.drift.scenarios.sweeter.kind=earthquake",
            "serving_simulation.drift.scenarios.sweeter: Input tag 'earthquake' found using 'kind' "
            "does not match any of the expected tags: 'noise', 'shift', 'unit_error', 'stuck', "
            "'missing', 'outliers', 'mix', 'label_shift', 'concept', 'staleness', "
            "'wrong_labels'",
        ),
        (
            "serving_simulation.samples=-3",
            "serving_simulation.samples: Input should be greater than or equal to 1 (it is -3)",
        ),
        (
            "training.comparison.metric=foo",
            "training.comparison.metric: Input should be 'rmse' or 'mae' (it is 'foo')",
        ),
        (
            "monitoring.drift.window=1X",
            "monitoring.drift.window: window '1X' is no fixed length of time such as 1D or 15min "
            "(it is '1X')",
        ),
        (
            "processing.split.method=file",
            "processing.split: method `file` needs held_out_file.",
        ),
        (
            "training.candidates.ridge.scale=true",
            "training.candidates.ridge.estimator: it has no value.",
        ),
    ],
)
def test_a_wrong_parameter_is_named_before_anything_runs(kedro_here, tmp_path, given, problem):
    error = kedro_here(*TEST, "--params", given, root=tmp_path / "root").error
    assert f"Wrong parameters: {problem.removesuffix('.')}. Correct" in error
    assert error.endswith(". Correct them in conf/ or after --params.")
    assert not (tmp_path / "root").exists()


def test_all_wrong_parameters_are_named_at_once(kedro_here, tmp_path):
    given = "serving_simulation.samples=0,monitoring.drfit.window=1D"
    error = kedro_here(*TEST, "--params", given, root=tmp_path / "root").error
    assert "serving_simulation.samples: " in error
    assert "monitoring.drfit: there is no such parameter" in error


def test_a_parameter_of_a_pipeline_that_does_not_run_is_checked_too(kedro_here, tmp_path):
    given = "training.comparison.metrik=mae"
    outcome = kedro_here(*TEST, *PROCESSING, "--params", given, root=tmp_path / "root")
    assert "training.comparison.metrik" in outcome.error


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "estimator=sklearn.tree.NoTree",
            "module 'sklearn.tree' has no attribute 'NoTree'. Correct its estimator",
        ),
        ("estimator=no_such_package.Tree", "Install what has no_such_package ('pip install "),
        ("settings.max_dept=3", "got an unexpected keyword argument 'max_dept'"),
        ("settings.max_depth=-3", "cannot be fitted: The 'max_depth' parameter of"),
    ],
)
def test_a_candidate_that_cannot_be(kedro_here, after_whole_run, setting, said):
    before = content(after_whole_run)
    # the one candidate of this environment whose settings are not tuned
    parameter = f"training.candidates.extra_trees_regressor.{setting}"
    error = kedro_here(*TEST, *TRAINING, "--params", parameter, root=after_whole_run).error
    assert error.startswith("Candidate ")
    assert said in error
    assert "in the training parameters." in error
    after = content(after_whole_run)
    assert not [path for path in after.keys() - before.keys() if "models" in path.parts]
    (promotion,) = (path for path in before if path.name == "promotion.json")
    assert after[promotion] == before[promotion]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("name=nope", "There is no backend 'nope': choose "),
        ("name=nope.Backend", "The backend 'nope.Backend' cannot be imported ("),
        ("config.port=80", "The backend in_process cannot be set up like that (port: "),
        ("config_file=no.yml", "The backend's config_file no.yml cannot be read (No such file"),
    ],
)
def test_a_backend_that_is_not_there(kedro_here, after_whole_run, load, setting, said):
    parameter = f"serving_simulation.backend.{setting}"
    error = kedro_here(*TEST, *SIMULATION, "--params", parameter, root=after_whole_run).error
    assert error.startswith(said)
    assert len(load(after_whole_run, ["inference_log"])["inference_log"].read()) == 200


# names on the command line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (*TEST, "--pipeline", "nonsense"),
            "There is no pipeline 'nonsense': choose __default__, processing, training, "
            "serving_simulation, monitoring, ",
        ),
        ((*TEST, "--pipelines", "processing,trainng"), "There is no pipeline 'trainng': choose "),
        ((*TEST, "--nodes", "nonsense"), "Pipeline does not contain nodes named ['nonsense']."),
        (
            (*TEST, "--namespaces", "nonsense"),
            "Pipeline does not contain nodes with the following namespaces: ['nonsense']",
        ),
        ((*TEST, "--runner", "NoRunner"), "module 'kedro.runner' has no attribute 'NoRunner'"),
    ],
)
def test_a_name_that_is_not_known(kedro_here, fresh_root, arguments, said):
    assert kedro_here(*arguments, root=fresh_root).error.startswith(said)
    assert content(fresh_root) == {}


def test_an_environment_that_is_not_there(kedro_here, tmp_path):
    error = kedro_here("--env", "nonsense", root=tmp_path / "root").error
    known = sorted(path.name for path in (PROJECT / "conf").iterdir() if path.is_dir())
    assert error == (
        f"There is no environment 'nonsense' in {PROJECT / 'conf'}: choose {', '.join(known)}."
    )


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "parameters_training.yml",
            "training:\n  comparison: [unclosed\n",
            "Invalid YAML or JSON file {conf}/case/parameters_training.yml, unable to read line 2",
        ),
        ("globals.yml", "root: [unclosed\n", "Invalid YAML or JSON file {conf}/case/globals.yml"),
        (
            "credentials.yml",
            "inference_log:\n  url: ${oc.env:WINE_QUALITY_NOT_SET}\n",
            "Environment variable 'WINE_QUALITY_NOT_SET' not found: set it, or choose another",
        ),
        (
            "credentials.yml",
            "inference_log:\n  url: mysql://someone:secret@host/wines\n",
            "The inference log cannot be kept in mysql: use a URL that begins with",
        ),
        (
            "mlflow.yml",
            "server:\n  mlflow_trackin_uri: sqlite:///mlflow.db\n",
            "Wrong settings of KedroMlflowConfig: server.mlflow_trackin_uri: Extra inputs are not",
        ),
        (
            "catalog.yml",
            "champion:\n  type: nowhere.Champion\n",
            "An exception occurred when parsing config for dataset 'champion': No module named",
        ),
        (
            "parameters.yml",
            "monitoring:\n  drift:\n    seed: ${globals:sead}\n",
            "Globals key 'sead' not found",
        ),
    ],
)
def test_an_environment_that_cannot_be_read(
    kedro_here, project_environment, fresh_root, file, text, said
):
    environment = project_environment(root=str(fresh_root), files={file: text})
    error = kedro_here(*environment, root=fresh_root).error
    assert error.startswith(said.format(conf=environment[1]))
    assert "secret" not in error
    assert content(fresh_root) == {}


# databases and folders


def test_a_damaged_inference_log_stops_monitoring_and_changes_nothing(kedro_here, after_whole_run):
    log = after_whole_run / "inference_log.db"
    log.write_bytes(b"no database " * 1000)
    before = content(after_whole_run)
    error = kedro_here(*TEST, *MONITORING, root=after_whole_run).error
    assert error == (
        f"The inference log sqlite:///{log} is damaged or no SQLite database (file is not a "
        "database): move the file away with those beside it that end in -wal and -shm, and put a "
        "backup in its place if there is one; the next write makes a new one."
    )
    assert content(after_whole_run) == before
    assert log.read_bytes() == b"no database " * 1000


def test_a_damaged_inference_log_stops_traffic(kedro_here, after_whole_run):
    log = after_whole_run / "inference_log.db"
    log.write_bytes(b"no database " * 1000)
    error = kedro_here(*TEST, *SIMULATION, root=after_whole_run).error
    assert f"{log} is damaged or no SQLite database" in error


def test_a_reference_that_is_lost_is_an_alert_and_ends_no_run(
    kedro_here, whole_run, after_whole_run, project_environment
):
    environment = project_environment(root=str(after_whole_run), registered_model="another")
    outcome = kedro_here(*environment, *MONITORING, root=after_whole_run)
    assert outcome.status == 0, outcome.errors
    (alert,) = json.loads((after_whole_run / "08_reporting" / "alerts.json").read_text())
    assert (alert["subject"], alert["model_version"], alert["open"]) == (
        *("reference", "1 (simulation)", True),
    )
    assert "Version 1 of another is not in the registry" in alert["reason"]
    page = (after_whole_run / "08_reporting" / "monitoring.html").read_text()
    assert "Monitoring: 1 incident is open" in page
    assert "A model version cannot be judged" in page


@pytest.mark.parametrize("pipeline", [PROCESSING, MONITORING])
def test_a_damaged_tracking_database(kedro_here, tmp_path, pipeline):
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"no database " * 1000)
    error = kedro_here(*TEST, *pipeline, root=tmp_path).error
    assert error == (
        f"The tracking database sqlite:///{database} cannot be used (file is not a database): "
        "repair it or move it away, or name another in mlflow.yml."
    )
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("0123456789ab", "a newer MLflow (its schema is 0123456789ab, that of MLflow {version} "),
        # the first that MLflow ever had
        ("451aebb31d03", "an older MLflow (its schema is 451aebb31d03, that of MLflow {version} "),
    ],
)
def test_a_tracking_database_of_another_mlflow(kedro_here, fresh_root, schema, said):
    with closing(sqlite3.connect(fresh_root / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (schema,))
    error = kedro_here(*TEST, *PROCESSING, root=fresh_root).error
    assert error.startswith(
        f"The tracking database sqlite:///{fresh_root}/mlflow.db was written by "
        f"{said.format(version=version('mlflow'))}"
    )
    assert content(fresh_root) == {}


@pytest.mark.parametrize("pipeline", [PROCESSING, TRAINING])
def test_a_tracking_server_that_is_away(
    kedro_here, project_environment, fresh_root, free_port, pipeline
):
    address = f"http://127.0.0.1:{free_port()}"
    settings = f"server:\n  mlflow_tracking_uri: {address}\n"
    environment = project_environment(root=str(fresh_root), files={"mlflow.yml": settings})
    error = kedro_here(*environment, *pipeline, root=fresh_root).error
    assert error == (
        f"The MLflow server {address} does not answer (Connection refused): see that it runs and "
        "can be reached from here, or correct server.mlflow_tracking_uri in mlflow.yml."
    )
    assert content(fresh_root) == {}


def test_a_file_where_the_root_should_be(kedro_here, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    error = kedro_here(*TEST, root=file / "root").error
    assert error.startswith(f"{file}/root: Not a directory. See that every folder of this path is")


def test_a_file_where_a_layer_should_be(kedro_here, fresh_root):
    layer = fresh_root / "02_intermediate"
    layer.write_text("")
    error = kedro_here(*TEST, *PROCESSING, root=fresh_root).error
    assert error.startswith(f"{layer}: File exists. See that every folder of this path is one")


AS_ROOT = not hasattr(os, "geteuid") or os.geteuid() == 0


@pytest.mark.skipif(AS_ROOT, reason="root writes anywhere")
def test_a_root_that_may_not_be_written(kedro_here, tmp_path):
    tmp_path.chmod(0o500)
    try:
        error = kedro_here(*TEST, *PROCESSING, root=tmp_path / "root").error
    finally:
        tmp_path.chmod(0o700)
    assert error == (
        f"The tracking database sqlite:///{tmp_path}/root/mlflow.db cannot be used ({tmp_path} may "
        "not be written): repair it or move it away, or name another in mlflow.yml."
    )


@pytest.mark.skipif(AS_ROOT, reason="root writes anywhere")
def test_a_layer_that_may_not_be_written(kedro_here, fresh_root):
    layer = fresh_root / "02_intermediate"
    layer.mkdir(mode=0o500)
    error = kedro_here(*TEST, *PROCESSING, root=fresh_root).error
    assert error.startswith(f"{layer}/rejected_wines.csv: Permission denied. See that every folder")
    assert error.endswith("you may read and write there.")


def test_a_tracking_database_that_turns_read_only_is_told_without_a_stack_trace(
    kedro_here, after_whole_run
):
    engine = sqlalchemy.create_engine(f"sqlite:///{after_whole_run}/mlflow.db")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON runs "
            "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    engine.dispose()
    error = kedro_here(*TEST, *TRAINING, root=after_whole_run).error
    assert error.startswith(f"The tracking database sqlite:///{after_whole_run}/mlflow.db cannot")
    assert "the disk is full" in error


# for who wants to see more


def test_the_stack_trace_is_there_for_who_asks_for_it(kedro_apart, tmp_path):
    mistake = ("--params", "serving_simulation.samples=-3")
    outcome = kedro_apart(*TEST, *mistake, "--traceback", root=tmp_path / "root")
    assert outcome.status == 1
    assert "Traceback" in outcome.errors + outcome.output
    assert "serving_simulation.samples" in outcome.errors + outcome.output


def test_the_node_that_failed_is_logged_for_who_asks_for_the_stack_trace(
    kedro_here, project_environment, raw, fresh_root
):
    shutil.copy(SAMPLE / "winequality-red.csv", raw / "winequality-rouge.csv")
    environment = project_environment(raw=str(raw), root=str(fresh_root))
    outcome = kedro_here(*environment, *PROCESSING, "--traceback", root=fresh_root)
    assert outcome.status == 1
    assert "failed with error" in outcome.output
    assert "Traceback" in outcome.errors
    assert "Error: " not in [line[:7] for line in outcome.errors.splitlines()]
