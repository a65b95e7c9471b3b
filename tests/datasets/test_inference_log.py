from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from wine_quality.cli import explain
from wine_quality.datasets import InferenceLogConnection, InferenceLogDataset
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.inference_log import InferenceLog, PredictionBatch

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
    log = dataset.load()
    dataset.release()
    assert sorted(log["prediction_id"]) == sorted(receipts["prediction_id"])
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
    dataset.release()


def test_an_acknowledged_prediction_that_is_not_logged_is_named(credentials, receipts):
    lost = str(uuid4())
    more = pd.DataFrame({"prediction_id": [lost], "acknowledged": [True]})
    with pytest.raises(DatasetError) as caught:
        InferenceLogDataset(credentials=credentials).save(pd.concat([receipts, more]))
    message = explain(caught.value)
    assert message.startswith("1 of 4 acknowledged predictions are not in the inference log")
    assert lost in message
