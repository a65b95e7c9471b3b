"""`kedro monitoring`: accepting a period as what is normal, listing, taking it back."""

import getpass
import shutil
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from wine_quality.drift.judging import judge_hours
from wine_quality.drift.profile_store import ProfileStore
from wine_quality.drift.profiles import HOUR_S, count
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdict_store import VerdictStore, subject_verdicts
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import PREDICTION, QUALITY

PROJECT = Path(__file__).parents[2]
MODEL = "wine-quality"
SETTINGS = DriftSettings(resamples=1000)


def predicted(rows, seed):
    wines = draw_wines(rows, seed)
    error = np.random.default_rng(seed).normal(0, 0.6, rows)
    return wines.assign(**{PREDICTION: wines[QUALITY] + error})


@pytest.fixture
def judged(fresh_root):
    """Two judged days of a registered version."""
    client = MlflowClient(f"sqlite:///{fresh_root}/mlflow.db")
    client.create_registered_model(MODEL)
    version = client.create_model_version(MODEL, source=fresh_root.as_uri())
    reference = Reference.from_wines(predicted(1500, 1))
    log = predicted(1200, 2)
    hour = pd.to_timedelta(np.arange(1200) // 25, unit="h")
    hours = count(log.assign(event_time=pd.Timestamp("2026-01-05", tz="UTC") + hour), reference)
    url = f"sqlite:///{fresh_root}/inference_log.db"
    with ProfileStore(url) as store, VerdictStore(url) as history:
        store.keep_reference(f"{MODEL}/1/{version.run_id}", reference)
        states = dict.fromkeys(hours.starts.tolist(), "25")
        store.replace("1", reference, HOUR_S, states, hours)
        verdicts = judge_hours(hours, reference, "1", SETTINGS)
        now = datetime(2026, 2, 1, tzinfo=UTC)
        history.record(subject_verdicts(*verdicts, SETTINGS.window), now)


@pytest.fixture
def monitoring(project_command):
    """Runs `kedro monitoring …`; gives status and output."""
    return partial(project_command, "monitoring")


SPAN = ("--from", "2026-01-05", "--to", "2026-01-07")


def test_a_period_is_accepted_listed_and_taken_back(judged, monitoring):
    assert monitoring("accepted") == (0, "No period is accepted.\n")
    status, output = monitoring("accept", *SPAN, "--note", "a new vintage", "--by", "ann")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    line = (
        "1  version 1, 2026-01-05 to 2026-01-06 UTC: 1,200 wines, errors of 1,200 labelled wines; "
        f"accepted by ann on {today}: a new vintage"
    )
    assert (status, output.splitlines()) == (
        0, [line, "'kedro run --pipeline monitoring' judges by it."],
    )  # fmt: skip
    assert monitoring("accepted") == (0, f"{line}\n")
    withdrawn = f"{line}; withdrawn by {getpass.getuser()} on {today}"
    assert monitoring("accept", "--withdraw", "1")[1].splitlines()[0] == withdrawn
    assert monitoring("accepted")[1] == (
        "No period is accepted, --all lists those that were withdrawn.\n"
    )
    assert monitoring("accepted", "--all") == (0, f"{withdrawn}\n")


def test_dates_are_those_of_the_time_zone(judged, monitoring, tmp_path, monkeypatch):
    shutil.copytree(PROJECT / "conf", tmp_path / "conf")
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "conf" / "test" / "parameters_monitoring.yml"
    file.write_text("monitoring: { drift: { time_zone: America/New_York } }")
    status, output = monitoring("accept", "--from", "2026-01-04", "--to", "2026-01-06")
    # no wine of the first day's first hours, and 5 hours of the next day in UTC
    assert (status, output) == (
        1, "Error: The period has 725 wines, fewer than the 1,000 that a reference needs: accept a "
        "longer one.\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*SPAN, "--version", "7"), "Error: Version 7 of wine-quality is not in the registry"),
        (("--from", "2026-01-05", "--to", "2026-01-06"), "Error: The period has 600 wines"),
        (("--from", "2026-01-05", "--to", "2026-02-07"), "Error: The period is not finished"),
        (("--from", "2025-01-05", "--to", "2025-01-07"), "Error: No wine is counted in 2025-01-05"),
        (("--withdraw", "9"), "Error: There is no accepted period 9"),
    ],
)
def test_a_mistake_is_one_line(judged, monitoring, arguments, message):
    status, output = monitoring("accept", *arguments)
    assert status == 1
    assert output.startswith(message)
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [(), ("--from", "2026-01-05"), (*SPAN, "--withdraw", "1"), ("--to", "2026-01-05")]
)
def test_what_to_do_has_to_be_clear(monitoring, arguments):
    status, output = monitoring("accept", *arguments)
    assert status == 2
    assert "give either --from and --to, or --withdraw with a period's number" in output
