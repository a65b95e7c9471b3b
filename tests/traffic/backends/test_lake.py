"""The partitioned log: what is in the files, and what happens to them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wine_quality.drift.log_reader import LakeReader
from wine_quality.errors import WineQualityError
from wine_quality.serving.log_schema import LOG_DTYPES
from wine_quality.serving.prediction_batch import RequestConflictError
from wine_quality.traffic.backend_contract import NOON, BackendContract, contract_wines
from wine_quality.traffic.backends import Backend, BackendContext, create_backend
from wine_quality.traffic.backends import lake as lake_module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def backend(context: BackendContext, folder: Path) -> Backend:
    return create_backend("lake", {"folder": str(folder)}, context)


def read_files(folder: Path, suffix: str) -> pd.DataFrame:
    """All files, by pandas."""
    empty = pd.DataFrame({name: [] for name in LOG_DTYPES}).astype(LOG_DTYPES)
    files = sorted(folder.glob(f"day=*/*{suffix}"))
    read = {".parquet": lambda f: pd.read_parquet(f, partitioning=None), ".csv": pd.read_csv}
    return pd.concat([empty, *(read[suffix](f).astype(LOG_DTYPES) for f in files)])


class TestLake(BackendContract):
    @pytest.fixture
    def backend(self, backend: Backend) -> Backend:
        return backend

    @pytest.fixture
    def logged(self, folder: Path) -> Callable[[], pd.DataFrame]:
        return lambda: read_files(folder, ".parquet")


class TestCsv(BackendContract):
    takes_ground_truth = False

    @pytest.fixture
    def backend(self, context: BackendContext, folder: Path) -> Backend:
        return create_backend("lake", {"folder": str(folder), "format": "csv"}, context)

    @pytest.fixture
    def logged(self, folder: Path) -> Callable[[], pd.DataFrame]:
        return lambda: read_files(folder, ".csv")


def two_days(n: int) -> list[datetime]:
    """n moments around a midnight."""
    midnight = datetime(2026, 2, 1, tzinfo=UTC)
    return [midnight + timedelta(minutes=i - n // 2) for i in range(n)]


def send(backend: Backend, wines: pd.DataFrame, request_id: str = "r") -> pd.DataFrame:
    return backend.predict(
        wines, event_time=two_days(len(wines)), source="test", request_id=request_id
    )


def test_the_engine_reads_what_was_written(backend: Backend, folder: Path) -> None:
    wines = contract_wines(10)
    answer = send(backend, wines)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == [
        "_lake.lock", "day=2026-01-31/r.parquet", "day=2026-02-01/r.parquet",
    ]  # fmt: skip
    rows = LakeReader(str(folder), "duckdb").read()
    assert rows["prediction_id"].tolist() == answer["prediction_id"].tolist()
    assert rows["event_time"].tolist() == [pd.Timestamp(moment) for moment in two_days(10)]
    assert rows["day"].astype("str").tolist() == ["2026-01-31"] * 5 + ["2026-02-01"] * 5
    np.testing.assert_array_equal(rows["alcohol"], wines["alcohol"])
    assert set(rows.columns) == {*LOG_DTYPES, "day"}


def test_the_types_are_in_every_file(backend: Backend, folder: Path) -> None:
    from pyarrow import parquet

    wine = contract_wines(1).assign(alcohol=np.nan)
    send(backend, wine)
    (file,) = folder.glob("day=*/*.parquet")
    schema = {field.name: str(field.type) for field in parquet.read_schema(file)}
    kinds = {"str": "string", "float64": "double", "datetime64[us, UTC]": "timestamp[us, tz=UTC]"}
    assert schema == {name: kinds[kind] for name, kind in LOG_DTYPES.items()}
    assert parquet.ParquetFile(file).read().column("alcohol").null_count == 1


def test_a_half_written_request_is_completed(backend: Backend, folder: Path) -> None:
    wines = contract_wines(10)
    first = send(backend, wines)
    (folder / "day=2026-02-01/r.parquet").unlink()
    again = send(backend, wines)
    assert again["prediction_id"].tolist()[:5] == first["prediction_id"].tolist()[:5]
    assert len(read_files(folder, ".parquet")) == 10
    pd.testing.assert_frame_equal(send(backend, wines), again)


def test_a_request_that_comes_back_on_another_day_is_another(backend: Backend) -> None:
    wines = contract_wines(10)
    send(backend, wines)
    with pytest.raises(RequestConflictError, match="before for other wines"):
        backend.predict(wines, event_time=NOON + timedelta(days=9), source="test", request_id="r")


def test_labels_rewrite_their_files_alone(backend: Backend, folder: Path) -> None:
    answers = [send(backend, contract_wines(6, seed), f"r{seed}") for seed in range(4)]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("day=*/*.parquet")}
    labels = answers[2].head(3)[["prediction_id"]].assign(quality=7, labelled_at=NOON)
    assert backend.submit_ground_truth(labels) == 3
    after = {path: path.stat().st_mtime_ns for path in folder.glob("day=*/*.parquet")}
    assert {path for path in after if after[path] != before[path]} == {
        folder / "day=2026-01-31/r2.parquet"
    }
    assert not list(folder.rglob("*.tmp"))


def test_a_file_of_labels_can_come_from_another_process(
    backend: Backend, folder: Path, context: BackendContext
) -> None:
    other = create_backend("lake", {"folder": str(folder)}, context)
    answer = send(backend, contract_wines(4))
    labels = answer[["prediction_id"]].assign(quality=7, labelled_at=NOON)
    assert other.submit_ground_truth(labels) == 4
    later = labels.assign(quality=8, labelled_at=NOON + timedelta(days=1))
    assert backend.submit_ground_truth(later) == 4
    assert set(read_files(folder, ".parquet")["quality"]) == {8.0}


def test_a_file_that_is_being_written_is_not_read(
    backend: Backend, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(backend, contract_wines(4), "first")

    def die(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lake_module, "_to_disk", die)
    with pytest.raises(WineQualityError, match=r"cannot be written to \(No space left") as caught:
        send(backend, contract_wines(4, 1), "second")
    assert "\n" not in str(caught.value)
    assert len(LakeReader(str(folder), "duckdb").read()) == 4


def test_its_mistakes_are_told(context: BackendContext, tmp_path: Path) -> None:
    with pytest.raises(WineQualityError, match="folder: Field required"):
        create_backend("lake", {}, context)
    with pytest.raises(WineQualityError, match="format: Input should be 'parquet' or 'csv'"):
        create_backend("lake", {"folder": str(tmp_path), "format": "xls"}, context)
    with pytest.raises(WineQualityError, match="predicts with the champion"):
        create_backend("lake", {"folder": str(tmp_path)}, BackendContext())
    (tmp_path / "file").touch()
    health = create_backend("lake", {"folder": str(tmp_path / "file")}, context).check_health()
    assert not health.ready
    assert "cannot be written to" in health.reason
    backend = create_backend("lake", {"folder": str(tmp_path / "log")}, context)
    with pytest.raises(WineQualityError, match="needs an id"):
        send(backend, contract_wines(2), "")
