import json
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from wine_quality.cli import explain
from wine_quality.datasets import (
    InferenceLogConnection,
    InferenceLogDataset,
    LabelledTrafficDataset,
    LakeLogDataset,
)
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.prediction_batch import PredictionBatch

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def credentials(tmp_path):
    return {"url": f"sqlite:///{tmp_path}/log.db"}


@pytest.fixture
def receipts(credentials, labelled_wines):
    """Receipts of three wines that are in the log."""
    ids = uuid7_batch(3)
    batch = PredictionBatch.from_frame(
        labelled_wines.head(3),
        np.array([5.0, 6.0, 7.0]),
        prediction_ids=ids,
        event_time=NOON,
        received_at=NOON,
        model_version="1",
        source="test",
        latency_ms=1.0,
    )
    with InferenceLog(credentials["url"]) as log:
        log.append_predictions(batch)
    return pd.DataFrame({"prediction_id": [str(i) for i in ids], "acknowledged": True})


def test_the_connection_is_the_log(credentials, receipts):
    connection = InferenceLogConnection(credentials=credentials)
    assert connection.exists()
    assert connection.load().counts().predictions == 3
    connection.release()


def test_the_connection_and_the_log_of_the_catalog_name_their_database(credentials):
    for kind in (InferenceLogConnection, InferenceLogDataset):
        assert "log.db" in str(kind(credentials=credentials))


def test_a_password_is_not_told():
    url = "postgresql+psycopg://cellar:s3cret@localhost/wines"
    dataset = InferenceLogDataset(credentials={"url": url})
    assert "s3cret" not in str(dataset)
    assert "s3cret" not in repr(dataset)


def test_the_connection_is_read_only(credentials):
    with pytest.raises(DatasetError, match="connection to the inference log is read only"):
        InferenceLogConnection(credentials=credentials).save("anything")


def test_the_log_is_read_with_its_labels(credentials, receipts):
    with InferenceLog(credentials["url"]) as log:
        log.append_ground_truth(receipts.head(1)[["prediction_id"]].assign(quality=8))
    dataset = InferenceLogDataset(credentials=credentials)
    log = dataset.load().read()
    dataset.release()
    assert log["event_time"].unique().tolist() == [pd.Timestamp(NOON)]
    assert sorted(log["prediction"]) == [5, 6, 7]
    assert log["quality"].dropna().tolist() == [8]


def test_an_empty_log_says_what_to_do(credentials):
    dataset = InferenceLogDataset(credentials=credentials)
    assert not dataset.exists()
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert explain(caught.value).startswith("Nothing is logged yet")
    assert "kedro run --pipeline serving_simulation" in explain(caught.value)


def test_receipts_of_logged_wines_pass(credentials, receipts):
    unanswered = pd.DataFrame({"prediction_id": [None], "acknowledged": [False]})
    dataset = InferenceLogDataset(credentials=credentials)
    dataset.save(pd.concat([receipts, unanswered], ignore_index=True))
    # in parts, as long traffic comes
    dataset.save(iter([receipts.head(2), receipts.tail(1), unanswered]))
    dataset.release()


def test_an_acknowledged_prediction_that_is_not_logged_is_named(credentials, receipts):
    lost = str(uuid4())
    more = pd.DataFrame({"prediction_id": [lost], "acknowledged": [True]})
    with pytest.raises(DatasetError) as caught:
        InferenceLogDataset(credentials=credentials).save(pd.concat([receipts, more]))
    message = explain(caught.value)
    assert message.startswith("1 of 4 acknowledged predictions are not in the inference log")
    assert lost in message


# A log of files


@pytest.fixture(params=["disk", "store"])
def lake(request, tmp_path, labelled_wines):
    """Three predictions of noon in a folder of Parquet files."""
    root = tmp_path if request.param == "disk" else request.getfixturevalue("store").address
    if request.param == "disk":
        (tmp_path / "lake" / "day=2026-01-31").mkdir(parents=True)
    logged = labelled_wines.head(3).assign(
        prediction_id=["a", "b", "c"],
        event_time=pd.Timestamp(NOON),
        labelled_at=pd.Timestamp(NOON),
        model_version="1",
        prediction=[5.0, 6.0, 7.0],
    )
    logged.to_parquet(f"{root}/lake/day=2026-01-31/part-0.parquet", index=False)
    return f"{root}/lake"


def receipts_of(*ids):
    moments = pd.Timestamp(NOON)
    return pd.DataFrame({"prediction_id": ids, "acknowledged": True, "event_time": moments})


def test_a_log_of_files_is_read(lake):
    dataset = LakeLogDataset(folder=lake)
    assert dataset.exists()
    assert "lake" in str(dataset)
    reader = dataset.load()
    assert reader.versions() == ("1",)
    assert sorted(reader.read()["prediction"]) == [5, 6, 7]
    dataset.release()


def test_windows_are_known_by_their_files(lake):
    dataset = LakeLogDataset(folder=lake)
    before, again = (dataset.load().states("1D", ["1"]) for _ in range(2))
    assert before["window_start"].tolist() == [pd.Timestamp("2026-01-31", tz="UTC")]
    assert again.equals(before)
    more = pd.read_parquet(f"{lake}/day=2026-01-31/part-0.parquet").assign(prediction_id="d")
    more.to_parquet(f"{lake}/day=2026-01-31/part-1.parquet", index=False)
    after = dataset.load().states("1D", ["1"])
    assert after["window_start"].equals(before["window_start"])
    assert after["state"][0] != before["state"][0]
    dataset.release()


def test_a_folder_without_files_says_what_to_do(tmp_path):
    dataset = LakeLogDataset(folder=str(tmp_path))
    assert not dataset.exists()
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert explain(caught.value).startswith("Nothing is logged yet")


def test_receipts_are_checked_against_the_files(lake):
    dataset = LakeLogDataset(folder=lake)
    unanswered = receipts_of("z").assign(acknowledged=False)
    dataset.save(pd.concat([receipts_of("a", "b"), unanswered], ignore_index=True))
    dataset.save([receipts_of("c"), unanswered])
    with pytest.raises(DatasetError) as caught:
        dataset.save([receipts_of("a", "lost")])
    message = explain(caught.value)
    assert message.startswith("1 of 2 acknowledged predictions are not in the inference log")
    assert "for example lost" in message


# Labelled traffic


def test_labelled_traffic_is_read_from_the_log_that_is_named(credentials, receipts):
    log = {"type": "wine_quality.datasets.InferenceLogDataset", "credentials": credentials}
    dataset = LabelledTrafficDataset(log=log)
    assert dataset.load().newest(10).empty
    with InferenceLog(credentials["url"]) as writer:
        writer.append_ground_truth(receipts.head(2)[["prediction_id"]].assign(quality=[8, 4]))
    found = dataset.load().newest(10)
    assert sorted(found["quality"]) == [4, 8]
    assert set(found["source"]) == {"test"}
    assert dataset.load().newest(0).dtypes.equals(found.dtypes)
    dataset.release()


@pytest.mark.parametrize(
    "log",
    [
        {
            "type": "wine_quality.datasets.InferenceLogDataset",
            "credentials": {"url": "sqlite:///{}/no.db"},
        },
        {"type": "wine_quality.datasets.LakeLogDataset", "folder": "{}/lake"},
    ],
)
def test_where_there_is_no_log_there_is_no_labelled_traffic(tmp_path, log):
    there = json.loads(json.dumps(log).replace("{}", str(tmp_path)))
    dataset = LabelledTrafficDataset(log=there)
    assert dataset.load().newest(10).empty
    assert not list(tmp_path.iterdir())


def test_labelled_traffic_is_read_only(credentials):
    log = {"type": "wine_quality.datasets.InferenceLogDataset", "credentials": credentials}
    with pytest.raises(DatasetError, match="Labelled traffic is read only"):
        LabelledTrafficDataset(log=log).save("anything")
