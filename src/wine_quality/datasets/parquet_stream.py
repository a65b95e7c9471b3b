"""A table larger than memory in one Parquet file, written and read frame by frame."""

import itertools
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import fsspec
import pandas as pd
from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview

from wine_quality.system.storage import address_of, write_whole
from wine_quality.traffic.streams import Frames, Stream


class ParquetStreamDataset(AbstractDataset[Frames, Stream]):
    """A stream of frames in a Parquet file, one row group a frame.

    The file appears at its path only whole, so that a stream may be read from the very file that
    it will replace.

    Args:
        filepath: Path or address, whatever fsspec reads.
        optional: Where there is no file, load a stream without frames.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        *,
        filepath: str,
        optional: bool = False,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._fs, path = fsspec.core.url_to_fs(filepath, **(credentials or {}))
        self._filepath = PurePosixPath(path)
        self.optional = optional
        self.metadata = metadata

    def save(self, data: Frames) -> None:
        """Write the frames as they come; all of one schema, which the first one sets."""
        with write_whole(self._fs, str(self._filepath)) as file:
            _write(file, data)

    def load(self) -> Stream:
        """Give the frames, indexed from 0 on through all of them; they are read when asked for."""
        import pyarrow.parquet as pq

        if self.optional and not self._exists():
            return Stream(lambda: iter(()), rows=0)
        with self._fs.open(str(self._filepath), "rb") as file:
            rows = pq.ParquetFile(file).metadata.num_rows
        return Stream(self._frames, rows=rows)

    def preview(self, nrows: int = 5) -> TablePreview:
        """Give the first rows, in the form that kedro-viz shows as a table."""
        shown = next(self._frames(), pd.DataFrame()).head(nrows)
        moments = shown.select_dtypes("datetimetz").columns
        return TablePreview(shown.astype(dict.fromkeys(moments, "str")).to_dict(orient="split"))

    def _frames(self) -> Iterator[pd.DataFrame]:
        import pyarrow.parquet as pq

        first = 0
        with self._fs.open(str(self._filepath), "rb") as file:
            parquet = pq.ParquetFile(file)
            for number in range(parquet.num_row_groups):
                frame = parquet.read_row_group(number).to_pandas()
                yield frame.set_axis(pd.RangeIndex(first, first + len(frame)))
                first += len(frame)

    def _exists(self) -> bool:
        return bool(self._fs.exists(str(self._filepath)))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": address_of(self._fs, str(self._filepath))}


def _write(file: BinaryIO, data: Frames) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    frames = iter(data)
    first = next(frames, pd.DataFrame())
    schema = pa.Schema.from_pandas(first, preserve_index=False)
    with pq.ParquetWriter(file, schema) as writer:
        for frame in itertools.chain([first], frames):
            if len(frame):
                table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
                writer.write_table(table, row_group_size=len(frame))
