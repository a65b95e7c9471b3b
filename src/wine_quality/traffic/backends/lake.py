"""A partitioned log for large loads, written by the champion itself: no server, no database.

The files are those that `wine_quality.drift.log_engines` reads with DuckDB and Spark.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import uuid4

import numpy as np
import pandas as pd
from filelock import FileLock
from pydantic import Field, field_validator

from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.labels import read_labels, unknown_predictions
from wine_quality.serving.log_schema import LOG_DTYPES
from wine_quality.serving.moments import Moments, utc_moments
from wine_quality.serving.prediction_batch import RequestConflictError
from wine_quality.serving.predictor import ModelDescription, Predictor, answer_frame, check_wines
from wine_quality.system.storage import is_address
from wine_quality.traffic.backends.base import Backend, BackendContext, Health, read_config
from wine_quality.wines import INPUTS, QUALITY, TYPE

if TYPE_CHECKING:
    import pyarrow as pa

_LOCK = "_lake.lock"
_ID = "prediction_id"
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")
_LABEL = {name: LOG_DTYPES[name] for name in (QUALITY, "labelled_at")}


class LakeConfig(Parameters):
    """Where the files go."""

    folder: Path = Field(description="Folder of the days' folders, made if it is not there")
    format: Literal["parquet", "csv"] = Field(
        "parquet", description="Parquet is the log; CSV is a load for other tools, without labels"
    )

    @field_validator("folder", mode="before")
    @classmethod
    def _on_a_disk(cls, folder: object) -> object:
        if is_address(str(folder)):
            raise ValueError(
                f"{folder} is no folder of this machine, and the lake is written to one, whose "
                "files are put in place under a lock; copy them to a store afterwards"
            )
        return folder


class LakeBackend(Backend):
    """Predicts with the champion, and writes ``FOLDER/day=YYYY-MM-DD/REQUEST.parquet``.

    A file holds the wines of one request that were measured on one day (UTC), with the columns of
    ``LOG_DTYPES``. It appears whole, under its name, or not at all; its name comes from the request
    id, so that a repeated request finds what it wrote, and completes what it had not. Unlike the
    database's, this log keeps only the newest label of a wine.

    Several threads and processes may write; memory holds one batch.
    """

    settings_type = LakeConfig

    def __init__(self, predictor: Predictor, settings: LakeConfig) -> None:
        """Take a champion.

        Args:
            predictor: The version that answers.
            settings: Where the files go.
        """
        self._predictor = predictor
        self._folder = settings.folder
        self._suffix = f".{settings.format}"
        # the span of ids in each file, by its state: labels come in batches, and files are many
        self._spans: dict[Path, tuple[tuple[int, int], tuple[str, str]]] = {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], context: BackendContext) -> Self:
        """Make a writer by ``LakeConfig``, with the run's champion."""
        settings = read_config(LakeConfig, config, "lake")
        if context.predictor is None:
            raise WineQualityError(
                "The backend lake predicts with the champion, and there is none: train a model "
                "first."
            )
        return cls(context.predictor, settings)

    def predict(
        self, wines: pd.DataFrame, *, event_time: Moments, source: str, request_id: str
    ) -> pd.DataFrame:
        """Predict a batch and write it; its files are on disk when this returns."""
        received_at, start = datetime.now(UTC), time.perf_counter()
        inputs = check_wines(wines).reset_index(drop=True)
        if not request_id:
            raise WineQualityError("A request needs an id that is not empty: give one.")
        moments = pd.Series(utc_moments(event_time, len(inputs), "event_time"))
        if inputs.empty:
            return answer_frame(wines.index, [], [], [])
        predictions = self._predictor.predict_checked(inputs)
        rows = inputs.assign(
            prediction_id=[str(i) for i in uuid7_batch(len(inputs))],
            event_time=moments,
            received_at=received_at,
            model_version=self._predictor.description.version,
            source=source,
            prediction=predictions,
            latency_ms=1000 * (time.perf_counter() - start),
            quality=np.nan,
            labelled_at=None,
        ).astype(LOG_DTYPES)[list(LOG_DTYPES)]
        days = {
            f"day={day}": part for day, part in rows.groupby(rows["event_time"].dt.date, sort=True)
        }
        name = _file_name(request_id) + self._suffix
        with self._disk():
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._days_with(name) - days.keys():
                raise _conflict(request_id)
            parts = [
                self._keep(self._folder / day / name, part, request_id)
                for day, part in days.items()
            ]
        kept = pd.concat(parts).sort_index()
        return answer_frame(
            wines.index,
            kept[_ID].tolist(),
            kept["prediction"].to_numpy(),
            kept["model_version"].tolist(),
        )

    def submit_ground_truth(self, labels: pd.DataFrame) -> int:
        """Write labels into the files of their predictions, each of which is replaced whole.

        Nothing is written if a prediction is not there. Killed between two files, the labels of
        some are written; submitting them again writes the rest.
        """
        rows, unknown = read_labels(labels)
        if self._suffix != ".parquet":
            raise WineQualityError(
                "CSV files are a load, and take no ground truth: choose the format parquet."
            )
        if not len(labels):
            return 0
        given = pd.DataFrame(rows, columns=[_ID, *_LABEL])
        given[_ID] = given[_ID].astype("str")
        # of several labels of a wine the newest counts, of the same moment the last
        newest = given.sort_values("labelled_at", kind="stable").drop_duplicates(_ID, keep="last")
        newest = newest.set_index(_ID).sort_index()
        with self._disk(), self._lock():
            found = {path: newest.loc[_ids_in(path, newest.index)] for path in self._files(newest)}
            present = {name for part in found.values() for name in part.index}
            unknown += [name for name in newest.index if name not in present]
            if unknown:
                raise unknown_predictions(unknown, len(labels))
            return sum(_label(path, part) for path, part in found.items())

    def describe_model(self) -> ModelDescription:
        """Name the champion."""
        return self._predictor.description

    def check_health(self) -> Health:
        """Ready if files can be made in the folder."""
        try:
            with self._disk():
                self._folder.mkdir(parents=True, exist_ok=True)
                with self._lock():
                    return Health(ready=True)
        except WineQualityError as error:
            return Health(False, str(error))

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WineQualityError(
                f"The folder {self._folder} cannot be written to ({error.strerror or error}): make "
                "it writable, or name another one in the backend's folder."
            ) from error

    def _lock(self) -> FileLock:
        """Who looks for a file and then puts one in its place does so alone."""
        return FileLock(self._folder / _LOCK)

    def _days_with(self, name: str) -> set[str]:
        return {path.name for path in self._folder.glob("day=*") if (path / name).exists()}

    def _keep(self, path: Path, rows: pd.DataFrame, request_id: str) -> pd.DataFrame:
        """Write a file, unless the request has it; what it holds now, with the index of rows."""
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            temporary = _write(path, rows)
            with self._lock():
                if not path.exists():
                    _put_in_place(temporary, path)
                    return rows
            temporary.unlink()
        kept = _read(path)
        if not kept[list(INPUTS)].equals(rows[list(INPUTS)].reset_index(drop=True)):
            raise _conflict(request_id)
        return kept.set_axis(rows.index)

    def _files(self, labels: pd.DataFrame) -> Iterator[Path]:
        """The files whose ids span one of these; labels are indexed by id, in ascending order."""
        for path in sorted(self._folder.glob("day=*/*.parquet")):
            low, high = self._span(path)
            if labels.index.searchsorted(low) < labels.index.searchsorted(high, side="right"):
                yield path

    def _span(self, path: Path) -> tuple[str, str]:
        state = path.stat()
        stamp = (state.st_mtime_ns, state.st_size)
        if path not in self._spans or self._spans[path][0] != stamp:
            self._spans[path] = stamp, _first_and_last_id(path)
        return self._spans[path][1]


def _file_name(request_id: str) -> str:
    """A name that every file system takes and no reader hides; another id has another name."""
    if _SAFE_NAME.fullmatch(request_id):
        return request_id
    return f"request_{hashlib.blake2b(request_id.encode(), digest_size=16).hexdigest()}"


def _conflict(request_id: str) -> RequestConflictError:
    return RequestConflictError(
        f"The request id {request_id!r} was used before for other wines: give each request its own."
    )


def _schema() -> "pa.Schema":
    import pyarrow as pa

    kinds = {
        "str": pa.string(),
        "float64": pa.float64(),
        "datetime64[us, UTC]": pa.timestamp("us", tz="UTC"),
    }
    return pa.schema([(name, kinds[kind]) for name, kind in LOG_DTYPES.items()])


def _write(path: Path, rows: pd.DataFrame) -> Path:
    """Write rows, on disk, beside a path; no reader takes the file by its name."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    table = pa.Table.from_pandas(rows, schema=_schema(), preserve_index=False)
    temporary = path.with_name(f"_{uuid4().hex}.tmp")
    if path.suffix == ".csv":
        csv.write_csv(table, temporary)
    else:
        # ids are all different: a dictionary of them would only be in the way
        repeated = ["model_version", "source", TYPE]
        parquet.write_table(table, temporary, compression="zstd", use_dictionary=repeated)
    _to_disk(temporary)
    return temporary


def _put_in_place(temporary: Path, path: Path) -> None:
    temporary.replace(path)
    _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> pd.DataFrame:
    from pyarrow import csv, parquet

    if path.suffix == ".csv":
        table = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=_schema()))
    else:
        table = parquet.ParquetFile(path).read()
    frame: pd.DataFrame = table.to_pandas()
    return frame.astype(LOG_DTYPES)


def _ids_in(path: Path, wanted: pd.Index) -> pd.Index:
    """Those of the wanted ids that are in a file."""
    from pyarrow import parquet

    ids = parquet.ParquetFile(path).read(columns=[_ID]).column(_ID).to_pandas()
    return wanted[wanted.isin(ids)]


def _first_and_last_id(path: Path) -> tuple[str, str]:
    """From the file's footer: no row is read."""
    from pyarrow import parquet

    footer = parquet.read_metadata(path)
    place = footer.schema.names.index(_ID)
    spans = [
        footer.row_group(group).column(place).statistics for group in range(footer.num_row_groups)
    ]
    return min(span.min for span in spans), max(span.max for span in spans)


def _label(path: Path, labels: pd.DataFrame) -> int:
    """Give rows of a file the labels that are newer than theirs: how many there were."""
    rows = _read(path)
    given = labels.reindex(rows[_ID]).reset_index(drop=True).astype(_LABEL)
    known = rows[list(_LABEL)]
    newer = given["labelled_at"] > known["labelled_at"]
    corrected = given["labelled_at"].eq(known["labelled_at"]) & given[QUALITY].ne(known[QUALITY])
    first = given["labelled_at"].notna() & known["labelled_at"].isna()
    changed = newer | corrected | first
    if changed.any():
        labelled = rows.assign(**known.where(~changed, given))
        _put_in_place(_write(path, labelled), path)
    return int(changed.sum())
