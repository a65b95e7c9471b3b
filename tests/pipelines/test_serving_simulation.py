import sys
from datetime import UTC, datetime, timedelta
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kedro_datasets.json import JSONDataset
from pandas.testing import assert_frame_equal
from pydantic import ValidationError

from wine_quality.contracts import LABELLED_WINES
from wine_quality.datasets import (
    InferenceLogConnection,
    InferenceLogDataset,
    OptionalJSONDataset,
    ParquetStreamDataset,
)
from wine_quality.errors import WineQualityError
from wine_quality.modelling.registry import Champion, RegisteredVersion
from wine_quality.pipelines.serving_simulation import (
    create_ground_truth_pipeline,
    create_pipeline,
    figures,
    nodes,
)
from wine_quality.pipelines.serving_simulation.parameters import (
    EventTimeParameters,
    SimulationParameters,
    next_period,
)
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.prediction_batch import PredictionBatch
from wine_quality.traffic.backends import (
    Backend,
    BackendUnavailableError,
    Health,
    InProcessBackend,
)
from wine_quality.traffic.planning import POOL_ROWS
from wine_quality.traffic.streams import Stream
from wine_quality.wines import INPUTS, QUALITY

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
EVENT_TIME = EventTimeParameters(start=START, hours=24)
VERSION = RegisteredVersion("wine-quality", "7", "run", datetime(2026, 1, 1, tzinfo=UTC), {})


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


class DumbBackend(InProcessBackend):
    """A backend that takes no labels."""

    def submit_ground_truth(self, labels):
        raise WineQualityError("The API key does not allow this.")


def parameters(**changes):
    plain = {
        "source": "held_out",
        "samples": 60,
        "batch_size": 25,
        "seed": 2009,
        "event_time": {"start": START, "hours": 24},
        "ground_truth": {"share": 1, "delay_hours": 48},
        "drift": {"enabled": False},
        "backend": {"name": "in_process"},
        "patience_seconds": 0,
    }
    return SimulationParameters.model_validate(plain | changes)


class AbsentBackend(InProcessBackend):
    """A backend that is away from its second request on."""

    requests = 0

    def predict(self, wines, **arguments):
        AbsentBackend.requests += 1
        if AbsentBackend.requests > 1:
            raise BackendUnavailableError("it is away")
        return super().predict(wines, **arguments)


UNSENT = {}
NOTHING = Stream(lambda: iter(()), rows=0)
DRY = {"enabled": True, "scenarios": {"dry": {"kind": "shift", "column": "alcohol", "amount": -5}}}


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


@pytest.fixture
def period(log):
    return nodes.open_period(log, NOTHING, UNSENT, parameters())


def planned(wines, period, **changes):
    return pd.concat(nodes.plan_traffic(wines, period, parameters(**changes)))


def queued(wines, period, undelivered=NOTHING, **changes):
    asked = parameters(**changes)
    drifted = nodes.add_drift(nodes.plan_traffic(wines, period, asked), wines, period, asked)
    return nodes.queue_traffic(drifted, undelivered, period, asked)


def test_the_first_period_has_its_number_bounds_and_seed(log, period):
    assert (period["number"], period["start"], period["end"]) == (
        0,
        "2026-01-01T00:00:00+00:00",
        "2026-01-02T00:00:00+00:00",
    )
    assert nodes.open_period(log, NOTHING, UNSENT, parameters()) == period
    assert nodes.open_period(log, NOTHING, UNSENT, parameters(seed=1))["seed"] != period["seed"]


def test_each_run_is_the_next_period_with_a_seed_of_its_own(log, labelled_wines, period):
    write(log, labelled_wines.head(2), START + timedelta(hours=5))
    second = nodes.open_period(log, NOTHING, UNSENT, parameters())
    assert (second["number"], second["start"]) == (1, "2026-01-02T00:00:00+00:00")
    assert second["seed"] != period["seed"]


def test_traffic_from_elsewhere_does_not_move_the_period(log, labelled_wines, period):
    write(log, labelled_wines.head(2), START + 9 * DAY, source="cellar")
    assert nodes.open_period(log, NOTHING, UNSENT, parameters()) == period


def test_what_was_not_delivered_is_traffic_too(log, labelled_wines, period):
    undelivered = queued(labelled_wines, period)
    assert nodes.open_period(log, undelivered, UNSENT, parameters())["number"] == 1
    write(log, labelled_wines.head(2), START + 3 * DAY)
    assert nodes.open_period(log, undelivered, UNSENT, parameters())["number"] == 4


def test_what_was_logged_elsewhere_is_traffic_too(log, period):
    before = {"last_sent": "2026-01-02T23:00:00+00:00"}
    assert nodes.open_period(log, NOTHING, before, parameters())["number"] == 2


def test_what_was_refused_is_traffic_too(log, labelled_wines):
    third = nodes.open_period(
        log, NOTHING, {"last_sent": "2026-01-02T23:00:00+00:00"}, parameters()
    )
    backend = nodes.connect_backend(CHAMPION, log, parameters())
    impossible = [frame.assign(alcohol=300.0) for frame in queued(labelled_wines, third)]
    receipts = list(nodes.send_traffic(backend, impossible, parameters()))
    delivery, undelivered = nodes.summarise_delivery(impossible, receipts)
    assert (delivery["refused"], list(undelivered)) == (60, [])
    assert nodes.open_period(log, undelivered, delivery, parameters())["number"] == 3


def test_a_period_has_its_own_seed_whatever_the_length_of_others(log, period):
    hourly = parameters(event_time={"start": START, "hours": 1})
    seeds = set()
    for hours in range(48):
        before = {"last_sent": (START + timedelta(hours=hours)).isoformat()}
        for asked in (parameters(), hourly):
            found = nodes.open_period(log, NOTHING, before, asked)
            seeds.add((found["start"], found["seed"]))
    assert len(dict(seeds)) == len(seeds) == len({seed for _, seed in seeds}) == 48


def test_the_held_out_wines_are_sent(labelled_wines):
    assert nodes.choose_wines(labelled_wines, parameters()) is labelled_wines


def test_synthetic_wines_are_drawn_anew(labelled_wines, period):
    pool = nodes.choose_wines(labelled_wines, parameters(source="synthetic"))
    assert_frame_equal(LABELLED_WINES.validate(pool), pool)
    assert len(pool) == POOL_ROWS
    traffic = planned(pool, period, source="synthetic")
    assert len(traffic) == 60
    other = planned(pool, period | {"seed": 1}, source="synthetic")
    assert not traffic[list(INPUTS)].equals(other[list(INPUTS)])
    # they come from the generator, not from the pool
    assert len(traffic.merge(pool)) < 30


def test_traffic_is_planned_for_the_period(labelled_wines, period):
    traffic = planned(labelled_wines, period)
    assert len(traffic) == 60
    assert traffic["event_time"].is_monotonic_increasing
    assert traffic["event_time"].between(START, START + DAY, inclusive="left").all()
    assert len(traffic.drop(columns="event_time").merge(labelled_wines.drop_duplicates())) == 60
    rhythm = {"start": START, "hours": 24, "rhythm": {"amplitude": 1, "peak_hour": 12}}
    at_noon = planned(labelled_wines, period, event_time=rhythm)
    assert at_noon["event_time"].dt.hour.between(6, 17).sum() > 40


def test_without_wines_there_is_no_traffic(labelled_wines, period):
    with pytest.raises(WineQualityError, match="no wines to send"):
        planned(labelled_wines.head(0), period)


def test_drift_is_added_where_asked_for(labelled_wines, period):
    before = pd.concat(queued(labelled_wines, period)).drop(columns=["request_id", "source"])
    assert_frame_equal(before, planned(labelled_wines, period))
    after = pd.concat(queued(labelled_wines, period, drift=DRY)).drop(
        columns=["request_id", "source"]
    )
    assert after["alcohol"].dropna().tolist() == (before["alcohol"] - 5).dropna().tolist()
    assert_frame_equal(after.drop(columns="alcohol"), before.drop(columns="alcohol"))


def test_the_truth_about_the_drift_is_kept_beside_that_of_other_periods(period):
    first = nodes.record_drift([], period, parameters(drift=DRY))
    assert [(row["name"], row["onset"]) for row in first] == [("dry", period["start"])]
    later = {"start": "2026-01-02T00:00:00+00:00", "end": "2026-01-03T00:00:00+00:00"}
    both = nodes.record_drift(first, later, parameters(drift=DRY))
    assert [row["period_start"] for row in both] == [period["start"], later["start"]]
    # a period that is planned again is told of once
    assert nodes.record_drift(both, later, parameters(drift=DRY)) == both
    assert nodes.record_drift(both, later, parameters()) == first


def test_the_backend_answers_with_the_champion(log):
    backend = nodes.connect_backend(CHAMPION, log, parameters())
    assert isinstance(backend, Backend)
    assert (backend.describe_model().name, backend.describe_model().version) == (
        "wine-quality",
        "7",
    )


@pytest.fixture
def cellar(monkeypatch):
    """A team's module of backends."""
    module = ModuleType("cellar")
    module.DeafBackend, module.AbsentBackend = DeafBackend, AbsentBackend
    module.DumbBackend = DumbBackend
    module.Settings = SettingsBackend
    monkeypatch.setattr(AbsentBackend, "requests", 0)
    monkeypatch.setitem(sys.modules, "cellar", module)


class SettingsBackend(InProcessBackend):
    """A backend that remembers its settings."""

    @classmethod
    def from_config(cls, config, context):
        backend = super().from_config({}, context)
        backend.config = config
        return backend


@pytest.mark.usefixtures("cellar")
@pytest.mark.parametrize(
    ("backend", "named"),
    [
        ({"name": "cloud"}, "no backend 'cloud'"),
        ({"name": "in_process", "config": {"port": 1}}, "port"),
        ({"name": "cellar.DeafBackend"}, "not ready: it is deaf"),
        ({"name": "in_process", "config_file": "nowhere.json"}, "nowhere.json cannot be read"),
    ],
)
def test_a_backend_that_cannot_be_reached_is_an_error(log, backend, named):
    with pytest.raises(WineQualityError, match=named):
        nodes.connect_backend(CHAMPION, log, parameters(backend=backend))


@pytest.mark.usefixtures("cellar")
def test_a_backends_settings_may_stand_in_a_file(log, tmp_path):
    file = tmp_path / "backend.json"
    file.write_text('{"url": "http://cellar", "timeout": 1}')
    asked = {"name": "cellar.Settings", "config_file": str(file), "config": {"timeout": 9}}
    backend = nodes.connect_backend(CHAMPION, log, parameters(backend=asked))
    assert backend.config == {"url": "http://cellar", "timeout": 9}


def test_a_log_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "log.db").write_text("this is no database, and long enough to be read as one")
    log = InferenceLog(f"sqlite:///{tmp_path}/log.db")
    with pytest.raises(WineQualityError, match="backend in_process is not ready"):
        nodes.connect_backend(CHAMPION, log, parameters())


@pytest.fixture
def sent(log, labelled_wines, period):
    """Backend, traffic and receipts of sixty wines."""
    backend = nodes.connect_backend(CHAMPION, log, parameters())
    traffic = queued(labelled_wines, period)
    receipts = list(nodes.send_traffic(backend, traffic, parameters()))
    return backend, traffic, Stream(lambda: iter(receipts))


def test_what_is_acknowledged_is_logged(log, sent):
    _, traffic, stream = sent
    delivery, undelivered = nodes.summarise_delivery(traffic, stream)
    receipts = pd.concat(stream)
    assert (delivery["sent"], delivery["acknowledged"], delivery["undelivered"]) == (60, 60, 0)
    assert delivery["rows_per_second"] > 0
    assert list(undelivered) == []
    logged = log.read().set_index("prediction_id")
    assert set(logged.index) == set(receipts["prediction_id"])
    of_receipts = receipts.set_index("prediction_id")["prediction"]
    assert logged["prediction"].to_dict() == of_receipts.to_dict()
    assert set(logged["source"]) == {"simulation"}


def test_sending_happens_once(log, labelled_wines, period):
    backend = nodes.connect_backend(CHAMPION, log, parameters())
    receipts = nodes.send_traffic(backend, queued(labelled_wines, period), parameters())
    assert log.counts().predictions == 0
    list(receipts)
    assert log.counts().predictions == 60
    with pytest.raises(RuntimeError, match="once only"):
        list(receipts)


def test_traffic_that_is_sent_twice_is_logged_once(log, labelled_wines, period, sent):
    backend, traffic, first = sent
    again = pd.concat(nodes.send_traffic(backend, traffic, parameters()))
    assert again["prediction_id"].tolist() == pd.concat(first)["prediction_id"].tolist()
    assert log.counts().predictions == 60


def judge(sent, period, pending=NOTHING, **ground_truth):
    backend, traffic, receipts = sent
    asked = parameters(ground_truth={"share": 1, "delay_hours": 48} | ground_truth)
    delivery, _ = nodes.summarise_delivery(traffic, receipts)
    labels = nodes.judge_wines(receipts, delivery, pending, period, asked)
    return labels, *nodes.submit_ground_truth(backend, labels, period, asked)


def test_traffic_of_which_nothing_is_acknowledged_is_an_error(log, labelled_wines, period):
    backend = nodes.connect_backend(Champion(VERSION, Unwilling()), log, parameters())
    traffic = queued(labelled_wines, period)
    receipts = list(nodes.send_traffic(backend, traffic, parameters()))
    delivery, undelivered = nodes.summarise_delivery(traffic, receipts)
    # it is the model that has to be corrected
    assert len(pd.concat(undelivered)) == 60
    with pytest.raises(WineQualityError, match="None of 60 wines was acknowledged: The model"):
        nodes.judge_wines(receipts, delivery, NOTHING, period, parameters())
    assert log.counts().predictions == 0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_ground_truth_is_handed_in(log, sent, period, share):
    labels, delivery, pending = judge(sent, period, share=share)
    labelled = log.read().dropna(subset=[QUALITY])
    assert len(labelled) == delivery["submitted"] == delivery["new"] == 60 * share
    assert list(pending) == [] or pd.concat(pending).empty
    assert (labelled["labelled_at"] - labelled["event_time"] == 2 * DAY).all()
    quality = pd.concat(sent[2]).set_index("prediction_id")[QUALITY]
    assert (quality[labelled["prediction_id"]].to_numpy() == labelled[QUALITY].to_numpy()).all()
    assert len(pd.concat(labels)) == 60 * share


def test_labels_that_are_not_due_wait_for_a_later_run(log, sent, period):
    _, first, stream = judge(sent, period, delay_hours=12, hold_back=True)
    waiting = pd.concat(stream)
    assert 0 < first["due"] == 60 - len(waiting) < 60
    assert (waiting["labelled_at"] > START + DAY).all()
    # the next run hands in what has become due, before its own
    later = period | {"start": period["end"], "end": "2026-01-03T00:00:00+00:00"}
    labels, second, _ = judge(sent, later, Stream(lambda: iter([waiting])), hold_back=True)
    assert_frame_equal(next(iter(labels)), waiting)
    assert second["new"] == len(waiting)
    assert log.counts().labelled == 60


def test_labels_that_wait_can_be_handed_in_by_themselves(log, sent, period):
    backend = sent[0]
    _, _, waiting = judge(sent, period, hold_back=True)
    assert log.counts().labels == 0
    delivery, pending = nodes.submit_pending_labels(backend, waiting, parameters())
    assert delivery == {"due": 60, "submitted": 60, "new": 60, "held_back": 0, "unknown": 0}
    assert pd.concat(pending).empty


def test_traffic_without_quality_has_no_ground_truth(sent, period):
    backend, traffic, stream = sent
    without = Stream(lambda: (frame.drop(columns=QUALITY) for frame in stream))
    with pytest.raises(WineQualityError, match="no ground truth"):
        judge((backend, traffic, without), period)


def test_traffic_is_summed_up(sent, period):
    _, labels, _ = judge(sent, period)
    delivery, _ = nodes.summarise_delivery(*sent[1:])
    earlier = {"period_start": "2025-12-31T00:00:00+00:00", "name": "other"}
    drift = nodes.record_drift([earlier], period, parameters(drift=DRY))
    summary, receipts = nodes.summarise_traffic(sent[2], delivery, labels, drift, period)
    events = pd.concat(sent[2])["event_time"]
    assert summary == delivery | {
        "labels": labels,
        "model_versions": ["7"],
        "first_event": events.min().strftime("%Y-%m-%d %H:%M UTC"),
        "last_event": events.max().strftime("%Y-%m-%d %H:%M UTC"),
        "drift": drift[1:],
    }
    assert receipts is sent[2]


def test_the_figure_holds_every_wine(sent):
    figure = figures.plot_delivery(sent[2])
    bars, line = figure.data
    assert bars.y.sum() == 60
    assert bars.name == "acknowledged"
    steps = np.diff(line.x, prepend=line.x[0] - (line.x[1] - line.x[0]))
    # moments are seconds since 1970, of which a float keeps but some tenths of a microsecond
    assert (line.y * steps).sum() == pytest.approx(60, rel=1e-3)
    assert "60 wines" in figure.layout.title.text
    # a title says once what an axis shows
    titles = [note.text for note in figure.layout.annotations]
    axes = (figure.layout.xaxis, figure.layout.xaxis2, figure.layout.yaxis, figure.layout.yaxis2)
    assert not {axis.title.text for axis in axes} & set(titles)
    # no bar reaches the frame, however few batches there are
    drawn = bars.x[bars.y > 0]
    assert bars.x.min() < drawn.min() / 1.1
    assert bars.x.max() > drawn.max() * 1.1


@pytest.mark.usefixtures("cellar")
def test_the_figure_shows_failures_apart(log, labelled_wines, period):
    asked = parameters(backend={"name": "cellar.AbsentBackend"})
    backend = nodes.connect_backend(CHAMPION, log, asked)
    receipts = list(nodes.send_traffic(backend, queued(labelled_wines, period), asked))
    done, failed, _ = figures.plot_delivery(receipts).data
    assert (done.name, done.y.sum()) == ("acknowledged", 25)
    assert (failed.name, failed.y.sum()) == ("failed", 35)


# Parameters


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"source": "real"}, "source"),
        ({"samples": 0}, "samples"),
        ({"batch_size": 0}, "batch_size"),
        ({"concurrency": 0}, "concurrency"),
        ({"rate": 0}, "rate"),
        ({"patience_seconds": -1}, "patience_seconds"),
        ({"event_time": {"start": datetime(2026, 1, 1), "hours": 24}}, "timezone"),
        ({"event_time": {"start": START, "hours": 0}}, "hours"),
        ({"event_time": {"start": "9999-12-31T00:00:00Z", "hours": 24}}, "between 1970 and 2200"),
        ({"event_time": {"start": "1969-12-31T00:00:00Z", "hours": 24}}, "between 1970 and 2200"),
        ({"event_time": {"start": START, "hours": 1, "rhythm": {"amplitude": 2}}}, "amplitude"),
        ({"ground_truth": {"share": 1.1, "delay_hours": 1}}, "share"),
        ({"ground_truth": {"share": 1, "delay_hours": -1}}, "delay_hours"),
        ({"drift": {"scenarios": {"x": {"kind": "shift", "column": "colour"}}}}, "no measurement"),
        ({"drift": {"column": "pH"}}, "column"),
        ({"backends": {}}, "backends"),
    ],
)
def test_wrong_parameters_are_named(wrong, named):
    with pytest.raises(ValidationError, match=named):
        parameters(**wrong)


# The pipeline


@pytest.fixture
def run(run_pipeline, credentials, labelled_wines, tmp_path):
    """Runs the pipeline, time after time, against one log and one folder."""

    def stream(name, **more):
        return ParquetStreamDataset(filepath=str(tmp_path / f"{name}.parquet"), **more)

    def once(pipeline=None, **changes):
        drift_file, delivery_file = (str(tmp_path / f"{n}.json") for n in ("drift", "delivery"))
        given = {
            "held_out_wines": labelled_wines,
            "champion": CHAMPION,
            "inference_log_connection": InferenceLogConnection(credentials=credentials),
            "inference_log": InferenceLogDataset(credentials=credentials),
            "params:serving_simulation": parameters(**changes),
            "injected_before": OptionalJSONDataset(absent=[], filepath=drift_file),
            "injected_drift": OptionalJSONDataset(absent=[], filepath=drift_file),
            "delivery": JSONDataset(filepath=delivery_file),
            "delivery_before": OptionalJSONDataset(absent=UNSENT, filepath=delivery_file),
            "undelivered_before": stream("undelivered", optional=True),
            "undelivered_traffic": stream("undelivered"),
            "pending_before": stream("pending", optional=True),
            "pending_labels": stream("pending"),
            **{name: stream(name) for name in ("planned_traffic", "traffic", "receipts", "labels")},
        }
        pipeline = pipeline or create_pipeline()
        used = pipeline.datasets()
        made = run_pipeline(pipeline, {name: given[name] for name in given if name in used})
        streams = {"traffic", "planned_traffic", "receipts", "labels"} & used
        made |= {name: given[name].load() for name in {"delivery"} & used}
        return made | {name: pd.concat(given[name].load()) for name in streams}

    return once


def test_the_pipeline_fills_the_log_period_by_period(run, log, labelled_wines):
    half = {"share": 0.5, "delay_hours": 48}
    first = run(ground_truth=half)
    second = run(ground_truth=half, drift=DRY)
    assert_frame_equal(first["traffic_wines"], labelled_wines)
    sent_of_plan = first["traffic"].drop(columns=["request_id", "source"])
    assert_frame_equal(sent_of_plan, first["planned_traffic"])
    assert len(LABELLED_WINES.validate(second["traffic"])) == 60
    moved = second["traffic"]["alcohol"] - second["planned_traffic"]["alcohol"]
    assert moved.dropna().tolist() == pytest.approx([-5] * int(moved.notna().sum()))
    assert first["traffic_summary"]["drift"] == []
    assert [row["name"] for row in second["traffic_summary"]["drift"]] == ["dry"]

    logged = log.read().sort_values("event_time", ignore_index=True)
    assert len(logged) == 120
    labelled = sum(made["label_delivery"]["new"] for made in (first, second))
    assert 30 < logged[QUALITY].notna().sum() == labelled < 90
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


@pytest.mark.usefixtures("cellar")
def test_what_could_not_be_delivered_is_sent_first_by_the_next_run(run, log):
    cut_off = run(backend={"name": "cellar.AbsentBackend"})
    assert (cut_off["delivery"]["acknowledged"], cut_off["delivery"]["undelivered"]) == (25, 35)
    assert cut_off["delivery"]["error"] == "it is away"
    assert log.counts().predictions == log.counts().labelled == 25

    made = run()
    assert made["delivery"]["sent"] == made["delivery"]["acknowledged"] == 35 + 60
    lost = cut_off["traffic"].iloc[25:]
    assert made["traffic"]["request_id"].tolist()[:35] == lost["request_id"].tolist()
    assert (made["traffic"]["event_time"].iloc[35:] >= START + DAY).all()
    assert log.counts().predictions == log.counts().labelled == 120
    # and nothing is left for the run after that
    assert run()["delivery"]["sent"] == 60


@pytest.mark.usefixtures("cellar")
def test_a_run_that_delivers_nothing_loses_nothing(run, log, monkeypatch):
    monkeypatch.setattr(AbsentBackend, "requests", 1)
    for _ in range(2):
        with pytest.raises(WineQualityError, match=r"None of \d+ wines was .* (60|120) are kept"):
            run(backend={"name": "cellar.AbsentBackend"})
    made = run()
    assert made["delivery"]["acknowledged"] == 180
    logged = log.read()
    assert logged["prediction_id"].nunique() == 180
    days = (logged["event_time"] - pd.Timestamp(START)) // pd.Timedelta(DAY)
    assert days.value_counts().to_dict() == {0: 60, 1: 60, 2: 60}


def test_held_back_labels_are_handed_in_by_later_runs_or_by_their_own_pipeline(run, log):
    held = {"ground_truth": {"share": 1, "delay_hours": 30, "hold_back": True}}
    run(**held)
    assert log.counts().labels == 0
    run(**held)
    first_day = log.counts().labels
    assert 20 < first_day < 60
    assert log.read().dropna(subset=[QUALITY])["event_time"].max() < START + timedelta(hours=18)

    made = run(create_ground_truth_pipeline(), **held)
    assert made["label_delivery"]["new"] == 120 - first_day
    assert log.counts().labelled == 120
    assert run(create_ground_truth_pipeline(), **held)["label_delivery"]["due"] == 0


@pytest.mark.usefixtures("cellar")
def test_labels_that_a_backend_does_not_take_wait_for_the_next_run(run, log):
    run(backend={"name": "cellar.DumbBackend"})
    assert (log.counts().predictions, log.counts().labels) == (60, 0)
    assert run()["label_delivery"]["new"] == 120


def test_synthetic_traffic_of_any_size_passes_in_parts(run, log, monkeypatch):
    monkeypatch.setattr("wine_quality.traffic.sender.CHUNK_ROWS", 200)
    made = run(source="synthetic", samples=1_010, batch_size=100, concurrency=2, drift=DRY)
    assert made["delivery"]["acknowledged"] == log.counts().predictions == 1_010
    assert log.counts().labelled == 1_010
    sizes = made["receipts"].groupby("request_id", sort=False).size().tolist()
    assert sizes == [100] * 10 + [10]
