import sys
from datetime import UTC, datetime, timedelta
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from pydantic import ValidationError

from wine_quality.datasets import InferenceLogConnection, InferenceLogDataset
from wine_quality.errors import WineQualityError
from wine_quality.modelling.registry import Champion, RegisteredVersion
from wine_quality.pipelines.serving_simulation import create_pipeline, nodes
from wine_quality.pipelines.serving_simulation.parameters import (
    EventTimeParameters,
    SimulationParameters,
    next_period,
)
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.inference_log import InferenceLog, PredictionBatch
from wine_quality.traffic.backends import Backend, Health, InProcessBackend
from wine_quality.traffic.scenarios import inject_drift
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import INPUTS, LABELLED_WINES, QUALITY

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
EVENT_TIME = EventTimeParameters(start=START, hours=24)
VERSION = RegisteredVersion("wine-quality", "7", "run", {})


class Alcohol:
    """Predicts half of the alcohol; a wine without any is a six."""

    def predict(self, wines):
        return wines["alcohol"].fillna(12).to_numpy() / 2


class Unwilling:
    """Answers nothing."""

    def predict(self, wines):
        return np.full(len(wines), np.nan)


CHAMPION = Champion(VERSION, Alcohol())


class DeafBackend(InProcessBackend):
    """A backend that is never ready."""

    def check_health(self):
        return Health(ready=False, reason="it is deaf")


def parameters(**changes):
    plain = {
        "source": "held_out",
        "samples": 60,
        "batch_size": 25,
        "seed": 2009,
        "event_time": {"start": START, "hours": 24},
        "ground_truth": {"share": 0.5, "delay_hours": 48},
        "drift": {"enabled": False},
        "backend": {"name": "in_process"},
    }
    return SimulationParameters.model_validate(plain | changes)


@pytest.fixture
def credentials(tmp_path):
    return {"url": f"sqlite:///{tmp_path}/log.db"}


@pytest.fixture
def log(credentials):
    with InferenceLog(credentials["url"]) as log:
        yield log


def write(log, wines, event_time, source="simulation"):
    """Log wines as if they had been predicted."""
    log.append_predictions(
        PredictionBatch.from_frame(
            wines,
            np.full(len(wines), 6.0),
            prediction_ids=uuid7_batch(len(wines)),
            event_time=event_time,
            received_at=event_time,
            model_version="7",
            source=source,
            latency_ms=1.0,
        )
    )


# Periods

MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
EVENT_TIMES = st.builds(EventTimeParameters, start=MOMENTS, hours=st.floats(0.25, 1000))


@given(EVENT_TIMES, MOMENTS)
def test_the_next_period_is_the_first_whole_one_after_the_last_event(settings, last_event):
    length = timedelta(hours=settings.hours)
    found = next_period(last_event, settings)
    assert (found - settings.start) % length == timedelta(0)
    assert found >= settings.start
    assert found > last_event or found == settings.start > last_event
    # the period before it is not free
    assert found == settings.start or found - length <= last_event


@given(EVENT_TIMES, st.integers(0, 5000), st.floats(0, 1, exclude_max=True))
def test_an_event_within_a_period_moves_to_the_one_after_it(settings, period, part):
    length = timedelta(hours=settings.hours)
    begin = settings.start + period * length
    microseconds = int(part * (length // timedelta(microseconds=1)))
    last_event = begin + timedelta(microseconds=microseconds)
    assert next_period(last_event, settings) == begin + length


def test_the_first_period_is_the_start():
    assert next_period(None, EVENT_TIME) == START


# Nodes


def test_the_held_out_wines_are_sent(labelled_wines):
    assert nodes.choose_wines(labelled_wines, parameters()) is labelled_wines


def test_synthetic_wines_are_drawn_anew(labelled_wines):
    wines = nodes.choose_wines(labelled_wines, parameters(source="synthetic"))
    assert_frame_equal(wines, draw_wines(60, 2009))


def test_traffic_is_planned_for_the_first_period(log, labelled_wines):
    wines = labelled_wines.assign(row=range(len(labelled_wines)))
    traffic = nodes.plan_traffic(wines, log, parameters())
    assert len(traffic) == 60
    assert traffic["event_time"].is_monotonic_increasing
    assert (traffic["event_time"] >= START).all()
    assert (traffic["event_time"] < START + DAY).all()
    # some of the given wines as they are, none of them twice
    assert traffic["row"].is_unique
    chosen = wines.iloc[traffic["row"]].reset_index(drop=True)
    assert_frame_equal(traffic.drop(columns="event_time"), chosen)


def test_each_run_is_the_next_period_with_wines_of_its_own(log, labelled_wines):
    first = nodes.plan_traffic(labelled_wines, log, parameters())
    write(log, labelled_wines.head(2), START + timedelta(hours=5))
    second = nodes.plan_traffic(labelled_wines, log, parameters())
    assert second["event_time"].between(START + DAY, START + 2 * DAY, inclusive="left").all()
    assert not second[list(INPUTS)].equals(first[list(INPUTS)])
    assert_frame_equal(nodes.plan_traffic(labelled_wines, log, parameters()), second)


def test_traffic_from_elsewhere_does_not_move_the_period(log, labelled_wines):
    write(log, labelled_wines.head(2), START + 9 * DAY, source="cellar")
    traffic = nodes.plan_traffic(labelled_wines, log, parameters())
    assert (traffic["event_time"] < START + DAY).all()


def test_without_wines_there_is_no_traffic(log, labelled_wines):
    with pytest.raises(WineQualityError, match="no wines to send"):
        nodes.plan_traffic(labelled_wines.head(0), log, parameters())


def test_drift_is_added_where_asked_for(labelled_wines):
    assert_frame_equal(nodes.add_drift(labelled_wines, parameters()), labelled_wines)
    asked = parameters(drift={"enabled": True, "column": "alcohol", "rule": "shift"})
    drifted = nodes.add_drift(labelled_wines, asked)
    assert_frame_equal(drifted, inject_drift(labelled_wines, asked.drift, asked.seed))
    assert drifted["alcohol"].mean() > labelled_wines["alcohol"].mean() + 2
    assert_frame_equal(drifted.drop(columns="alcohol"), labelled_wines.drop(columns="alcohol"))


def test_drift_of_a_single_wine_is_an_error(labelled_wines):
    with pytest.raises(WineQualityError, match="at least two wines"):
        nodes.add_drift(labelled_wines.head(1), parameters(drift={"enabled": True}))


def test_the_backend_answers_with_the_champion(log):
    backend = nodes.connect_backend(CHAMPION, log, parameters())
    assert isinstance(backend, Backend)
    assert (backend.describe_model().name, backend.describe_model().version) == (
        "wine-quality",
        "7",
    )


@pytest.mark.parametrize(
    ("backend", "named"),
    [
        ({"name": "cloud"}, "no backend 'cloud'"),
        ({"name": "in_process", "config": {"port": 1}}, "no setting port"),
        ({"name": "cellar.DeafBackend"}, "not ready: it is deaf"),
    ],
)
def test_a_backend_that_cannot_be_reached_is_an_error(log, monkeypatch, backend, named):
    cellar = ModuleType("cellar")
    cellar.DeafBackend = DeafBackend
    monkeypatch.setitem(sys.modules, "cellar", cellar)
    with pytest.raises(WineQualityError, match=named):
        nodes.connect_backend(CHAMPION, log, parameters(backend=backend))


def test_a_log_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "log.db").write_text("this is no database, and long enough to be read as one")
    log = InferenceLog(f"sqlite:///{tmp_path}/log.db")
    with pytest.raises(WineQualityError, match="backend in_process is not ready"):
        nodes.connect_backend(CHAMPION, log, parameters())


@pytest.fixture
def sent(log, labelled_wines):
    """Backend, receipts and delivery of sixty wines."""
    backend = nodes.connect_backend(CHAMPION, log, parameters())
    traffic = nodes.plan_traffic(labelled_wines, log, parameters())
    return backend, *nodes.send_traffic(backend, traffic, parameters())


def test_what_is_acknowledged_is_logged(log, sent):
    _, receipts, delivery = sent
    assert (delivery["sent"], delivery["acknowledged"], delivery["failed"]) == (60, 60, 0)
    assert delivery["rows_per_second"] > 0
    logged = log.read().set_index("prediction_id")
    assert set(logged.index) == set(receipts["prediction_id"])
    of_receipts = receipts.set_index("prediction_id")["prediction"]
    assert logged["prediction"].to_dict() == of_receipts.to_dict()
    assert set(logged["source"]) == {"simulation"}


def test_traffic_that_is_sent_twice_is_logged_once(log, labelled_wines):
    backend = nodes.connect_backend(CHAMPION, log, parameters())
    traffic = nodes.plan_traffic(labelled_wines, log, parameters())
    first, _ = nodes.send_traffic(backend, traffic, parameters())
    again, _ = nodes.send_traffic(backend, traffic, parameters())
    assert again["prediction_id"].tolist() == first["prediction_id"].tolist()
    assert log.counts().predictions == 60


def test_traffic_of_which_nothing_is_acknowledged_is_an_error(log, labelled_wines):
    backend = nodes.connect_backend(Champion(VERSION, Unwilling()), log, parameters())
    traffic = nodes.plan_traffic(labelled_wines, log, parameters())
    with pytest.raises(WineQualityError, match="None of 60 wines was acknowledged: The model"):
        nodes.send_traffic(backend, traffic, parameters())
    assert log.counts().predictions == 0


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_ground_truth_is_handed_in_for_a_share(log, sent, share):
    asked = parameters(ground_truth={"share": share, "delay_hours": 48})
    summary, receipts = nodes.submit_ground_truth(*sent, asked)
    labelled = log.read().dropna(subset=[QUALITY])
    assert len(labelled) == summary["labelled"] == 60 * share
    assert (labelled["labelled_at"] - labelled["event_time"] == 2 * DAY).all()
    quality = receipts.set_index("prediction_id")[QUALITY]
    assert (quality[labelled["prediction_id"]].to_numpy() == labelled[QUALITY].to_numpy()).all()
    assert_frame_equal(receipts, sent[1])


def test_traffic_is_summed_up(sent):
    asked = parameters(drift={"enabled": True, "column": "alcohol"})
    summary, receipts = nodes.submit_ground_truth(*sent, asked)
    assert summary == sent[2] | {
        "labelled": 30,
        "model_versions": ["7"],
        "first_event": receipts["event_time"].min().strftime("%Y-%m-%d %H:%M UTC"),
        "last_event": receipts["event_time"].max().strftime("%Y-%m-%d %H:%M UTC"),
        "drift": "alcohol by uniform_noise",
    }
    assert nodes.submit_ground_truth(*sent, parameters())[0]["drift"] == ""


def test_traffic_without_quality_has_no_ground_truth(sent):
    backend, receipts, delivery = sent
    with pytest.raises(WineQualityError, match="no ground truth"):
        nodes.submit_ground_truth(backend, receipts.drop(columns=QUALITY), delivery, parameters())


# Parameters


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"source": "real"}, "source"),
        ({"samples": 0}, "samples"),
        ({"batch_size": 0}, "batch_size"),
        ({"event_time": {"start": datetime(2026, 1, 1), "hours": 24}}, "timezone"),
        ({"event_time": {"start": START, "hours": 0}}, "hours"),
        ({"ground_truth": {"share": 1.1, "delay_hours": 1}}, "share"),
        ({"ground_truth": {"share": 1, "delay_hours": -1}}, "delay_hours"),
        ({"drift": {"column": "colour"}}, "no measurement"),
        ({"drift": {"standard_deviations": 0}}, "standard_deviations above 0"),
        ({"backends": {}}, "backends"),
    ],
)
def test_wrong_parameters_are_named(wrong, named):
    with pytest.raises(ValidationError, match=named):
        parameters(**wrong)


# The pipeline


def test_the_pipeline_fills_the_log_period_by_period(
    run_pipeline, credentials, log, labelled_wines
):
    def run(**changes):
        given = {
            "held_out_wines": labelled_wines,
            "champion": CHAMPION,
            "inference_log_connection": InferenceLogConnection(credentials=credentials),
            "inference_log": InferenceLogDataset(credentials=credentials),
            "params:serving_simulation": parameters(**changes),
        }
        return run_pipeline(create_pipeline(), given)

    first = run()
    second = run(drift={"enabled": True, "column": "residual_sugar"})
    assert_frame_equal(first["traffic_wines"], labelled_wines)
    assert_frame_equal(first["traffic"], first["planned_traffic"])
    assert len(LABELLED_WINES.validate(second["traffic"])) == 60
    assert (
        second["traffic"]["residual_sugar"].mean()
        > second["planned_traffic"]["residual_sugar"].mean() + 1
    )
    assert first["traffic_summary"]["drift"] == ""
    assert second["traffic_summary"]["drift"] == "residual_sugar by uniform_noise"

    logged = log.read().sort_values("event_time", ignore_index=True)
    assert len(logged) == 120
    assert logged[QUALITY].notna().sum() == 60
    days = (logged["event_time"] - pd.Timestamp(START)) // pd.Timedelta(DAY)
    assert days.tolist() == [0] * 60 + [1] * 60
    sent = pd.concat([first["traffic"], second["traffic"]], ignore_index=True)
    assert_frame_equal(logged[list(INPUTS)], sent[list(INPUTS)])
    assert logged["prediction"].tolist() == Alcohol().predict(sent).tolist()
    assert set(logged["model_version"]) == {"7"}
    for made in (first, second):
        assert made["receipts"]["acknowledged"].all()
        assert set(made["receipts"]["prediction_id"]) < set(logged["prediction_id"])
        assert made["delivery"].items() <= made["traffic_summary"].items()
