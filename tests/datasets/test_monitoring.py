import pandas as pd
import pytest
from kedro.io import DatasetError

from wine_quality.datasets import (
    IncidentStoreDataset,
    ProfileStoreDataset,
    VerdictHistoryDataset,
)

URL = "postgresql://wine:s3cret@localhost/wines"


def judged(verdict):
    start = pd.Timestamp("2026-01-01", tz="UTC")
    return pd.DataFrame(
        {
            "window_start": [start],
            "window_end": [start + pd.Timedelta("1D")],
            "window_seconds": [86400],
            "model_version": ["1"],
            "subject": ["model (all)"],
            "verdict": [verdict],
            "value": [1.0],
            "threshold": [2.0],
            "n": [100],
            "reason": [f"all: {verdict}"],
        }
    )


def test_saving_verdicts_adds_what_has_changed(tmp_path):
    history = VerdictHistoryDataset(credentials={"url": f"sqlite:///{tmp_path}/verdicts.db"})
    history.save(judged("ok"))
    history.save(judged("ok"))
    history.save(judged("decayed"))
    found = history.load().history()
    history.release()
    assert found["verdict"].tolist() == ["ok", "decayed"]
    assert (pd.Timestamp.now("UTC") - found["decided_at"] < pd.Timedelta("10min")).all()


@pytest.mark.parametrize("kind", [ProfileStoreDataset, IncidentStoreDataset])
def test_a_store_is_given_and_never_replaced(tmp_path, kind):
    dataset = kind(credentials={"url": f"sqlite:///{tmp_path}/profiles.db"})
    assert dataset.load() is dataset.load()
    with pytest.raises(DatasetError, match="read only"):
        dataset.save("anything")
    dataset.release()


@pytest.mark.parametrize("kind", [ProfileStoreDataset, IncidentStoreDataset, VerdictHistoryDataset])
def test_a_password_is_not_told(kind):
    dataset = kind(credentials={"url": URL})
    assert "localhost" in str(dataset)
    assert "s3cret" not in str(dataset)
